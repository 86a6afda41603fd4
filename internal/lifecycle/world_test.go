package lifecycle

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/jobs"
)

// store is what the broker keeps of one session, or of one anonymous job.
type store struct {
	rev         uint64
	step        time.Duration // the broker's clock is ahead of what it was
	epoch       uint64        // the owner's
	host        string
	keys        map[string]Found
	deadLetters map[string]int // dead letter id -> how many
	acked       map[uint64]bool
	bodies      map[uint64][]byte // requests by sequence
	lost        bool              // the bucket of records was made again
}

func newStore() *store {
	return &store{rev: 10, epoch: 1, host: "h1", keys: map[string]Found{}, deadLetters: map[string]int{}, acked: map[uint64]bool{}, bodies: map[uint64][]byte{}}
}

// put writes a key by compare-and-set.
func (s *store) put(key string, value []byte, expect uint64, now time.Time) (uint64, Fault) {
	if s.keys[key].Revision != expect {
		return 0, WrongRevision
	}
	s.rev++
	s.keys[key] = Found{Value: slices.Clone(value), Revision: s.rev, Stored: now, Exists: true}
	return s.rev, NoFault
}

func (s *store) owner(host string, epoch uint64) Owner {
	switch {
	case epoch == s.epoch:
		return Mine
	case host == s.host:
		return Another
	}
	return Foreign
}

// keyOf is the key that an action is about.
func keyOf(a Action) string {
	switch a.Kind {
	case WriteRecord:
		return "record"
	case WriteAttemptRecord, ReadAttempts:
		return "attempt record"
	case CreateResult, ReadResult:
		return "result " + a.Job.Env.Job
	}
	return ""
}

// runner drives one core against a store. What it requests is served when, and how, the test chooses.
type runner struct {
	*Core
	store   *store
	clk     *clock.Clock
	name    string
	now     time.Time
	pending []Action // those that are answered
	acts    []Action // of the last step
	tokens  bool     // waits for a run token
	parked  bool
	calls   map[uint32]*call
	slots   map[uint32]bool
	watch   func(*runner, Action) // sees each action before it is carried out
}

type call struct {
	task   Task
	gaveUp bool
}

// machine is a process's own clocks.
type machine struct{ r *runner }

func (m machine) Wall() time.Time  { return begin }
func (m machine) Mono() clock.Mono { return time.Hour + m.r.now.Sub(begin) }

// broker is the broker's time.
func (r *runner) broker() time.Time { return r.now.Add(r.store.step) }

func (r *runner) mono() clock.Mono { return machine{r}.Mono() }

// compare reads the broker's time.
func (r *runner) compare() { r.clk.Observe(r.broker(), r.mono(), r.mono()) }

var ref = jobs.SessionRef{Tenant: jobs.DefaultTenant, ID: "s"}

var begin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func config() *Config {
	return &Config{Host: "h1", MaxPayload: 1 << 20, SessionIdle: time.Hour, CheckoutTimeout: 5 * time.Second, DeadWindow: 10 * time.Minute,
		Chance: func() float64 { return .5 }}
}

func newRunner(cfg *Config, s *store, now time.Time, made func(*runner) *Core) *runner {
	r := &runner{store: s, name: cfg.Host, now: now, calls: map[uint32]*call{}, slots: map[uint32]bool{}}
	r.clk = clock.New(machine{r})
	r.compare()
	cfg.Clock = r.clk
	r.Core = made(r)
	return r
}

// session is the core of the session in the present epoch.
func session(cfg *Config, s *store, now time.Time, waits bool) *runner {
	return newRunner(cfg, s, now, func(*runner) *Core { return NewSession(cfg, ref, s.epoch, 7, waits) })
}

// anonymous is the core of an anonymous job; fresh means that no other host can have had it.
func anonymous(cfg *Config, s *store, now time.Time, fresh bool) *runner {
	return newRunner(cfg, s, now, func(r *runner) *Core {
		since := Present(r.clk)
		if fresh {
			since.At = since.At.Add(-time.Hour)
		}
		return NewAnonymous(cfg, jobs.Anonymous(jobs.DefaultTenant), since, r.mono())
	})
}

// step gives the core an event and carries out what needs no answer.
func (r *runner) step(ev Event) {
	if ev.Kind == Delivered {
		ev.Job.Came = r.mono()
	}
	if ev.Fault != NoFault && ev.Err == nil {
		ev.Err = errors.New("fault")
	}
	r.acts = r.Step(&ev, nil)
	for n := 0; n < len(r.acts); n++ {
		a := r.acts[n]
		if r.watch != nil {
			r.watch(r, a)
		}
		switch a.Kind {
		case RequestToken:
			r.tokens = true
		case StopWaiting:
			r.tokens, r.parked = false, false
		case Park:
			r.parked = true
		case Look, Own, Compare, CheckRoom, ReadAttempts, Fetch, ReadResult, Acquire, WriteAttemptRecord, WriteRecord, WriteDeadLetter, CreateResult:
			r.pending = append(r.pending, a)
		case Withdraw:
			r.pending = slices.DeleteFunc(r.pending, func(p Action) bool { return p.Op == a.Op })
		case Release:
			delete(r.slots, a.Op)
		case Call:
			r.calls[a.Op] = &call{task: *a.Task}
		case CancelCall:
			r.calls[a.Op].gaveUp = true
		case KeepAlive:
			r.acts = append(r.acts, r.Step(&Event{Kind: KeptAlive}, nil)...)
		case DropPayload:
			a.Job.Data = nil
		case Ack:
			r.store.acked[a.Job.Sequence] = true
		}
	}
}

// serve answers a pending action from the store. fault is how it goes wrong; applied means that a write was made all the same.
func (r *runner) serve(i int, fault Fault, applied bool) {
	a := r.pending[i]
	r.pending = slices.Delete(r.pending, i, i+1)
	ev := Event{Op: a.Op, Fault: fault, Connected: true}
	switch a.Kind {
	case Own:
		ev.Kind, ev.Owner = Owned, r.store.owner(r.name, r.epoch)
	case CheckRoom:
		ev.Kind = RoomLooked
	case Compare:
		ev.Kind = Compared
		if fault == NoFault {
			r.compare()
		}
	case Look:
		if a.Check && fault == NoFault {
			r.compare()
		}
		ev.Kind, ev.Record, ev.AttemptRecord = Looked, r.store.keys["record"], r.store.keys["attempt record"]
		ev.Owner, ev.Forgot = r.store.owner(r.name, r.epoch), r.store.lost && !ev.Record.Exists
	case ReadAttempts:
		ev.Kind, ev.AttemptRecord = AttemptsRead, r.store.keys["attempt record"]
	case Fetch:
		ev.Kind, ev.Data = Fetched, r.store.bodies[a.Job.Sequence]
	case ReadResult:
		ev.Kind, ev.Result = ResultRead, r.store.keys[keyOf(a)]
	case Acquire:
		ev.Kind, ev.Slot = SlotGranted, Slot{WorkerID: 1, Worker: r.name + "/1", Engine: "stub"}
		r.slots[a.Op] = true
	case WriteDeadLetter:
		ev.Kind = Wrote
		if fault == NoFault || applied {
			if !a.Check || r.store.deadLetters[a.DeadLetter.ID()] == 0 {
				r.store.deadLetters[a.DeadLetter.ID()] = 1 // within the broker's window one of two is stored
			}
		}
	default:
		ev.Kind = Wrote
		if fault == NoFault || applied {
			rev, lost := r.store.put(keyOf(a), a.Body, a.Revision, r.broker())
			ev.Revision = rev
			if fault == NoFault {
				ev.Fault = lost
			}
		}
	}
	r.step(ev)
}

// answer ends a call.
func (r *runner) answer(op uint32, out Output) {
	c := r.calls[op]
	delete(r.calls, op)
	out.GaveUp, out.Slot, out.Label = c.gaveUp, Slot{WorkerID: 1, Worker: r.name + "/1", Engine: "stub"}, c.task.Label
	r.step(Event{Kind: Answered, Op: op, Output: &out})
}

// succeed ends a call as a worker that appends the job's id to the session's state.
func (r *runner) succeed(op uint32) {
	t := r.calls[op].task
	state := string(t.State)
	if state != "" {
		state += " "
	}
	r.answer(op, Output{Value: []byte{0xc0}, State: []byte(state + t.Env.Job), Version: t.StateVersion + 1})
}

// wake is when the core needs a look, zero: never.
func (r *runner) wake() time.Time {
	if m := r.Wake(); m != 0 {
		return begin.Add(m - time.Hour)
	}
	return time.Time{}
}

// tick lets the time come that the core waits for.
func (r *runner) tick() bool {
	at := r.wake()
	if at.IsZero() {
		return false
	}
	if at.After(r.now) {
		r.now = at
	}
	r.step(Event{Kind: Ticked})
	return true
}

// spell writes an action as the scenarios do.
func spell(a Action) string {
	words := []string{a.Kind.String()}
	add := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	if a.Job != nil {
		add("%s", a.Job.Env.Job)
	}
	switch a.Kind {
	case Acquire:
		if a.Task.Prefer != 0 {
			add("prefer=%d", a.Task.Prefer)
		}
		if a.Task.Avoid != "" {
			add("avoid=%s", a.Task.Avoid)
		}
	case Call:
		add("attempt=%d state=%s budget=%v", a.Task.Attempt, a.Task.Label, a.Task.Budget)
	case Withdraw, CancelCall:
		if a.Err != nil {
			add("(%s)", a.Err.Code)
		}
	case WriteAttemptRecord:
		hd, _ := jobs.ParseAttemptRecord(a.Body)
		add("expect=%d attempt=%d failures=%d", a.Revision, hd.Attempt, len(hd.Failures))
		if !hd.NotBefore.IsZero() {
			add("delay=%v", hd.Delay)
		}
	case WriteRecord:
		rec, _ := jobs.ParseRecord(a.Body)
		add("expect=%d last=%d state=%q", a.Revision, rec.LastSequence, rec.State)
		if rec.Last != nil {
			add("%s %s", rec.Last.Job, rec.Last.Kind)
			if rec.Last.DeadLettered {
				add("dead")
			}
		}
		if len(rec.Ended) > 0 {
			add("ended=%v", rec.Ended)
		}
	case CreateResult:
		r, _ := jobs.ParseResult(a.Body)
		add("expect=%d %s", a.Revision, r.Kind)
	case Reply:
		_, text, failed := jobs.ReplyError(a.Body)
		if !failed {
			text = "ok"
		}
		add("attempt=%d %s", a.Reply.Attempt, text)
	case WriteDeadLetter:
		add("attempts=%d check=%v", a.DeadLetter.Attempts, a.Check)
	case Nak:
		add("delay=%v", a.Delay)
	case Park:
		add("%s", a.Breaker)
	case Verdict:
		add("%s", a.Verdict)
	case GiveUp:
		add("%s", [...]string{"mine", "another epoch's", "another host's"}[a.Owner])
	case Block, Full:
		add("%s", a.Step)
	case Count:
		add("%s", KindOf(a.Err))
	case Log:
		add("%s", a.Note)
	}
	return strings.Join(words, " ")
}
