package lifecycle

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dspex/dspex/internal/jobs"
)

// The model: one session of a broker that loses nothing, owners that come one after the other, and everything else as bad as
// it can be. Reads and writes are served in any order, late, never, or without an answer; deliveries are repeated; an owner that
// lost the partition goes on as if nothing had happened. The promises are checked at every action.
type world struct {
	*rapid.T
	store   *store
	now     time.Time
	stepped time.Time            // the broker's clock was, last: a process that starts later cannot see it
	written time.Time            // when the record was
	since   map[uint64]time.Time // when a job was accepted
	jobs    []*Job               // all that were accepted
	owner   *runner
	had     map[uint64]bool // sequences that were delivered to owner
	zombies []*runner       // owners before
	starts  map[uint64]int
	ends    map[uint64]uint64 // sequence -> the epoch that has decided the job
	outcome map[string]string // job -> the outcome that was seen first
	applied []string          // the state's history
}

func (w *world) config(host string) *Config {
	c := config()
	c.Host = host
	return c
}

// newOwner takes the partition: of another host, or in a new epoch of the same one, which has what it runs.
func (w *world) newOwner(sameHost bool) {
	old := w.owner
	w.store.epoch++
	waits := sameHost && old != nil && !old.Quiet()
	if !sameHost || old == nil {
		w.store.host = fmt.Sprintf("h%d", w.store.epoch)
	}
	w.owner, w.had = session(w.config(w.store.host), w.store, w.now, waits), map[uint64]bool{}
	w.owner.watch = w.check
	if old != nil {
		if sameHost {
			w.step(old, Event{Kind: EpochOver})
		}
		w.zombies = append(w.zombies, old)
	}
	if waits {
		w.predecessors()
	}
}

// predecessors reports to the owner when all earlier epochs of its host have come to rest.
func (w *world) predecessors() {
	if w.owner == nil || w.owner.State() != AwaitPredecessor && !w.owner.early {
		return
	}
	for _, z := range w.zombies {
		if z.name == w.owner.name && !z.Quiet() {
			return
		}
	}
	w.step(w.owner, Event{Kind: PredecessorGone})
}

func (w *world) step(r *runner, ev Event) {
	r.now = w.now
	w.Logf("%s/%d event %d", r.name, r.epoch, ev.Kind)
	r.step(ev)
	w.tidy()
}

// tidy removes the zombies that are at rest.
func (w *world) tidy() {
	w.zombies = slices.DeleteFunc(w.zombies, func(z *runner) bool { return z.Quiet() && len(z.pending) == 0 && len(z.calls) == 0 })
}

// check holds an action against the promises, before it is carried out.
func (w *world) check(r *runner, a Action) {
	w.Logf("  %s/%d %v: %s", r.name, r.epoch, r.State(), spell(a))
	switch a.Kind {
	case Call:
		w.starts[a.Job.Sequence]++
		if n, most := w.starts[a.Job.Sequence], retriesOf(a.Task)+1; n > most {
			w.Fatalf("%s starts %d times: at most %d", a.Job.Env.Job, n, most)
		}
		for _, j := range w.jobs {
			if j.Sequence < a.Job.Sequence && !w.decided(j) && r == w.owner {
				w.Fatalf("%s starts before %s has its outcome", a.Job.Env.Job, j.Env.Job)
			}
		}
	case Ack:
		if !w.store.keys["result "+a.Job.Env.Job].Exists {
			w.Fatalf("%s is acknowledged without a result", a.Job.Env.Job)
		}
	case Reply:
		if _, text, failed := jobs.ReplyError(a.Body); failed && (strings.Contains(text, "not known yet") || strings.Contains(text, "another payload")) {
			return
		}
		if seen, ok := w.outcome[a.Job.Env.Job]; !ok {
			w.outcome[a.Job.Env.Job] = string(a.Body)
		} else if seen != string(a.Body) {
			w.Fatalf("%s is answered twice, and differently", a.Job.Env.Job)
		}
		if _, text, failed := jobs.ReplyError(a.Body); failed && strings.Contains(text, "deadline passed") {
			since := w.since[a.Job.Sequence]
			if early := w.now.Sub(since) < a.Job.Env.Deadline; early && !since.Before(w.stepped) {
				w.Fatalf("%s expires %v after it was accepted: its deadline is %v", a.Job.Env.Job, w.now.Sub(since), a.Job.Env.Deadline)
			}
		}
	}
}

func retriesOf(t *Task) int {
	if t.Req.Policy.MaxRetries == nil {
		return 5
	}
	return *t.Req.Policy.MaxRetries
}

func (w *world) record() *jobs.Record {
	rec, err := readRecord(w.store.keys["record"])
	if err != nil {
		w.Fatal(err)
	}
	return rec
}

// decided reports whether a job has an outcome that nothing can change.
func (w *world) decided(j *Job) bool {
	if w.store.keys["result "+j.Env.Job].Exists {
		return true
	}
	rec := w.record()
	return rec != nil && (rec.LastSequence >= j.Sequence || rec.Ended[j.Sequence] != "")
}

// committed checks what a write has left in the record.
func (w *world) committed(before *jobs.Record, written time.Time) {
	after := w.record()
	if after == nil {
		return
	}
	was := uint64(0)
	var ended map[uint64]jobs.Kind
	if before != nil {
		was, ended = before.LastSequence, before.Ended
	}
	if after.LastSequence < was {
		w.Fatalf("the last sequence falls from %d to %d", was, after.LastSequence)
	}
	for seq, kind := range ended {
		if seq > after.LastSequence && after.Ended[seq] != kind {
			w.Fatalf("the early end of %d is forgotten", seq)
		}
		if seq == after.LastSequence && seq != was && after.Last != nil && after.Last.Kind == jobs.Succeeded {
			w.Fatalf("%d ended early, and takes effect", seq)
		}
	}
	if before != nil && after.Generation > before.Generation {
		if !slices.ContainsFunc(w.jobs, func(j *Job) bool {
			return w.since[j.Sequence].Sub(written) > time.Hour || w.stepped.After(written) || w.stepped.After(w.since[j.Sequence])
		}) {
			w.Fatalf("the state is lost though no job came too late for it")
		}
		w.applied = nil
	}
	state := strings.Fields(string(after.State))
	if len(state) < len(w.applied) || !slices.Equal(state[:len(w.applied)], w.applied) {
		w.Fatalf("the state goes from %v to %v", w.applied, state)
	}
	if extra := len(state) - len(w.applied); extra > 1 {
		w.Fatalf("%d effects at once: %v", extra, state)
	}
	for i, id := range state {
		if slices.Contains(state[:i], id) {
			w.Fatalf("%s takes effect twice: %v", id, state)
		}
	}
	w.applied = state
}

// serve answers something that a runner has requested.
func (w *world) serve(r *runner, i int, fault Fault, applied bool) {
	r.now = w.now
	before := w.record()
	a := r.pending[i]
	w.Logf("%s/%d serves %s: fault %d, applied %v", r.name, r.epoch, spell(a), fault, applied)
	had := w.store.keys[keyOf(a)]
	writes := !slices.Contains([]ActionKind{Look, ReadResult, ReadAttempts, Fetch, Acquire, Own, Compare}, a.Kind)
	r.serve(i, fault, applied && fault == Unknown && writes)
	if now := w.store.keys[keyOf(a)]; strings.HasPrefix(keyOf(a), "result") && had.Exists && !bytes.Equal(had.Value, now.Value) {
		w.Fatalf("the %s changes", keyOf(a))
	}
	if now := w.store.keys[keyOf(a)]; a.Kind == WriteAttemptRecord && now.Revision != had.Revision {
		w.attemptRecorded(r, had, now)
	}
	w.committed(before, w.written)
	for _, j := range w.jobs {
		if w.ends[j.Sequence] == 0 && w.decided(j) {
			w.ends[j.Sequence] = r.epoch
		}
	}
	if now := w.store.keys["record"]; a.Kind == WriteRecord && now.Revision != had.Revision {
		w.written = w.now
	}
	w.tidy()
	w.predecessors()
}

// attemptRecorded checks a new attempt record: no epoch begins what a later one has ended. (That an earlier epoch's attempt ends between a
// look at the record and the next start is not to be seen before the commit.)
func (w *world) attemptRecorded(r *runner, before, now Found) {
	hd, err := jobs.ParseAttemptRecord(now.Value)
	if err != nil {
		w.Fatal(err)
	}
	if before.Exists {
		if was, err := jobs.ParseAttemptRecord(before.Value); err == nil && was.Sequence == hd.Sequence && was.Attempt == hd.Attempt {
			return // a renewal, a retry or a fence
		}
	}
	if end := w.ends[hd.Sequence]; end > r.epoch && hd.NotBefore.IsZero() {
		w.Fatalf("epoch %d begins the job %d, which epoch %d has ended", r.epoch, hd.Sequence, end)
	}
}

func (w *world) runners() []*runner { return append(slices.Clone(w.zombies), w.owner) }

// deliver hands a job that is not acknowledged to the owner, after those that it has not had yet: a consumer delivers in the
// order of the stream, and what comes behind a gap is not filed. Redeliveries come at any time.
func (w *world) deliver(j *Job) {
	for _, earlier := range w.open() {
		if earlier.Sequence < j.Sequence && !w.had[earlier.Sequence] {
			w.deliver(earlier)
		}
	}
	w.had[j.Sequence] = true
	copied := Job{Sequence: j.Sequence, Stored: j.Stored, Env: j.Env, Bad: j.Bad, Data: j.Data, Size: j.Size, Unkept: rapid.Bool().Draw(w.T, "unkept")}
	w.step(w.owner, Event{Kind: Delivered, Job: &copied})
}

func (w *world) open() []*Job {
	return slices.DeleteFunc(slices.Clone(w.jobs), func(j *Job) bool { return w.store.acked[j.Sequence] })
}

// publish accepts a job.
func (w *world) publish() {
	seq := uint64(len(w.jobs) + 1)
	env := jobs.Envelope{Job: jobs.SequenceJob(seq), Mode: jobs.ModeQueue, Type: jobs.JSON}
	if rapid.IntRange(0, 3).Draw(w.T, "call") == 0 {
		env.Mode = jobs.ModeCall
	}
	if rapid.Bool().Draw(w.T, "reply") {
		env.ReplyTo = "_INBOX.x"
	}
	if rapid.IntRange(0, 3).Draw(w.T, "deadline") == 0 {
		env.Deadline = time.Duration(rapid.IntRange(1, 20).Draw(w.T, "seconds")) * time.Second
	}
	body := fmt.Appendf(nil, `{"command": "predict", "options": {"max_retries": %d, "timeout": "%ds"}}`,
		rapid.IntRange(0, 2).Draw(w.T, "retries"), rapid.IntRange(1, 40).Draw(w.T, "timeout"))
	w.store.bodies[seq] = body
	j := &Job{Sequence: seq, Stored: w.now.Add(w.store.step), Env: env, Data: body, Size: len(body)}
	w.jobs = append(w.jobs, j)
	w.since[seq] = w.now
	if rapid.IntRange(0, 5).Draw(w.T, "lost on the way") > 0 {
		w.deliver(j)
	}
}

// answer ends a call of a worker.
func (w *world) answer(r *runner, how int) {
	ops := slices.Sorted(maps.Keys(r.calls))
	op := ops[0]
	r.now = w.now
	switch {
	case how < 5:
		r.succeed(op)
	case how < 8:
		r.answer(op, Output{Err: jobs.Errorf(jobs.Connection, jobs.CodeWorkerDied, "the worker died").Again()})
	default:
		r.answer(op, Output{Err: jobs.Errorf(jobs.Python, "bad_input", "the arguments are wrong")})
	}
	w.tidy()
	w.predecessors()
}

// heal serves everything well until nothing is left to do.
func (w *world) heal() {
	for range 3000 {
		if w.owner.tokens || w.owner.parked {
			w.owner.tokens, w.owner.parked = false, false
			w.step(w.owner, Event{Kind: TokenGranted, Token: 1})
			continue
		}
		busy := false
		for _, r := range w.runners() {
			switch {
			case len(r.pending) > 0:
				w.serve(r, 0, NoFault, true)
			case len(r.calls) > 0:
				w.answer(r, 0)
			default:
				continue
			}
			busy = true
			break
		}
		if busy {
			continue
		}
		w.predecessors()
		open := w.open()
		if len(open) == 0 && w.owner.Quiet() {
			return
		}
		if len(open) > 0 && w.owner.State() == Idle {
			for _, j := range open {
				w.deliver(j)
			}
			continue
		}
		soonest := w.owner
		for _, z := range w.zombies {
			if at := z.wake(); !at.IsZero() && (soonest.wake().IsZero() || at.Before(soonest.wake())) {
				soonest = z
			}
		}
		if at := soonest.wake(); at.After(w.now) {
			w.now = at
		}
		w.step(soonest, Event{Kind: Ticked})
	}
	w.Fatalf("%d jobs do not come to their end: %v, pending %d", len(w.open()), w.owner.State(), len(w.owner.pending))
}

var faults = []Fault{NoFault, NoFault, NoFault, NoFault, Unknown, Unknown, Failed, NoSpace}

func TestASessionKeepsItsPromisesWhateverIsLostLateOrRepeated(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := &world{T: rt, store: newStore(), now: begin, starts: map[uint64]int{}, ends: map[uint64]uint64{}, outcome: map[string]string{}, since: map[uint64]time.Time{}}
		w.newOwner(false)
		for range rapid.IntRange(1, 150).Draw(rt, "steps") {
			w.act()
		}
		if w.owner.over {
			w.newOwner(false)
		}
		w.heal()
		for _, j := range w.jobs {
			if !w.store.keys["result "+j.Env.Job].Exists {
				rt.Fatalf("%s has no outcome", j.Env.Job)
			}
		}
	})
}

// act does one thing at random.
func (w *world) act() {
	rs := w.runners()
	r := rs[rapid.IntRange(0, len(rs)-1).Draw(w.T, "runner")]
	switch what := rapid.IntRange(0, 99).Draw(w.T, "what"); {
	case what < 14 && len(w.jobs) < 12:
		w.publish()
	case what < 55 && len(r.pending) > 0:
		i := rapid.IntRange(0, len(r.pending)-1).Draw(w.T, "pending")
		fault := faults[rapid.IntRange(0, len(faults)-1).Draw(w.T, "fault")]
		if r.pending[i].Kind == Acquire && fault != NoFault {
			w.refuse(r, i)
			return
		}
		w.serve(r, i, fault, rapid.Bool().Draw(w.T, "applied"))
	case what < 65 && (r.tokens || r.parked):
		r.tokens, r.parked = false, false
		w.step(r, Event{Kind: TokenGranted, Token: 1})
	case what < 75 && len(r.calls) > 0:
		w.answer(r, rapid.IntRange(0, 9).Draw(w.T, "how"))
	case what < 82:
		if open := w.open(); len(open) > 0 {
			w.deliver(open[rapid.IntRange(0, len(open)-1).Draw(w.T, "job")])
		}
	case what < 90:
		w.now = w.now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(w.T, "ms")) * time.Millisecond)
		w.step(r, Event{Kind: Ticked})
	case what < 93 && len(w.jobs) > 0:
		w.step(r, Event{Kind: CancelRequested, Op: 1 << 30, ID: w.jobs[rapid.IntRange(0, len(w.jobs)-1).Draw(w.T, "cancel")].Env.Job})
	case what < 94: // the broker's clock is set, or another broker leads
		w.now = w.now.Add(time.Millisecond) // no two things happen at once
		w.stepped = w.now
		w.store.step += time.Duration(rapid.IntRange(-7200, 7200).Draw(w.T, "clock")) * time.Second
	case what < 95:
		w.newOwner(true)
	case what < 97:
		w.newOwner(false)
	case what < 98: // the process ends
		w.zombies = slices.DeleteFunc(w.zombies, func(z *runner) bool { return z == r })
		if r == w.owner {
			w.owner = nil
			w.newOwner(false)
		}
	case what < 99 && r != w.owner:
		w.step(r, Event{Kind: Cut})
	default:
		w.now = w.now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(w.T, "seconds later")) * time.Second)
		w.step(r, Event{Kind: Ticked})
	}
	w.predecessors()
}

func (w *world) refuse(r *runner, i int) {
	a := r.pending[i]
	r.pending = slices.Delete(r.pending, i, i+1)
	refusal := Refusal{Reason: Reason(rapid.IntRange(0, 3).Draw(w.T, "reason")), Name: "b", RetryAfter: time.Second,
		Err: jobs.Errorf(jobs.Initialization, jobs.CodeWorkerStart, "no worker can be started").Again()}
	if refusal.Reason == BreakerOpen {
		refusal.Err = jobs.Errorf(jobs.Resource, jobs.CodeBreakerOpen, "open").Again()
	}
	w.step(r, Event{Kind: SlotRefused, Op: a.Op, Refusal: refusal})
}
