package lifecycle

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/jobs"
)

var update = flag.Bool("update", false, "write the scenarios' outputs as they are")

// A scenario is a file of blocks: lines with what happens, a line of dashes, and what the core does about it. testdata/README.md
// lists the words.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(text))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			} else if got != string(text) {
				t.Errorf("got:\n%s\nwant:\n%s", got, text)
			}
		})
	}
}

const dashes = "----"

// play returns the scenario with the outputs that the core really has.
func play(t *testing.T, text string) string {
	var b strings.Builder
	s := &scenario{t: t, store: newStore(), jobs: map[uint64]*Job{}}
	skipping := false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case skipping && line != "":
		case line == dashes:
			skipping = true
			b.WriteString(dashes + "\n" + strings.Join(s.out, ""))
			s.out = nil
		default:
			skipping = false
			b.WriteString(line + "\n")
			if line != "" && !strings.HasPrefix(line, "#") {
				s.do(strings.Fields(line))
			}
		}
	}
	return b.String()
}

type scenario struct {
	t     *testing.T
	store *store
	r     *runner
	old   *runner
	out   []string
	jobs  map[uint64]*Job // by sequence, as they were delivered first
	last  uint64
}

// do is one line: a word and its options.
func (s *scenario) do(words []string) {
	opts := map[string]string{}
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		opts[key] = value
	}
	run, ok := verbs[words[0]]
	if !ok {
		s.t.Fatalf("unknown word %q: must be one of %v", words[0], slices.Sorted(maps.Keys(verbs)))
	}
	run(s, opts)
	if s.r == nil {
		return
	}
	for _, a := range s.r.acts {
		if a.Kind != Forget {
			s.out = append(s.out, spell(a)+"\n")
		}
	}
	s.r.acts = nil
	if words[0] != "new" {
		s.out = append(s.out, fmt.Sprintf("(%s)\n", s.r.State()))
	}
}

var verbs = map[string]func(*scenario, map[string]string){
	"new": func(s *scenario, o map[string]string) { // a core of the session, or of an anonymous job
		if s.r != nil {
			s.store.epoch++
		}
		cfg, now := config(), begin
		if name := o["host"]; name != "" {
			cfg.Host, s.store.host = name, name
		}
		if s.r != nil {
			now = s.r.now
		}
		s.old = s.r
		_, lone := o["anonymous"]
		_, waits := o["predecessor"]
		if lone {
			_, fresh := o["fresh"]
			s.r = anonymous(cfg, s.store, now, fresh)
		} else {
			s.r = session(cfg, s.store, now, waits)
		}
	},
	"thaw": func(s *scenario, _ map[string]string) { // the owner before goes on, as if nothing had happened
		s.old.now, s.r, s.old = s.r.now, s.old, s.r
	},
	"deliver": func(s *scenario, o map[string]string) {
		seq := s.number(o, "seq", s.last+1)
		s.last = max(s.last, seq)
		s.r.step(Event{Kind: Delivered, Job: s.job(seq, o)})
	},
	"cancel": func(s *scenario, o map[string]string) {
		s.r.step(Event{Kind: CancelRequested, Op: 1 << 30, ID: o["job"]})
	},
	"token":       func(s *scenario, _ map[string]string) { s.r.step(Event{Kind: TokenGranted, Token: 1}) },
	"predecessor": func(s *scenario, _ map[string]string) { s.r.step(Event{Kind: PredecessorGone}) },
	"over":        func(s *scenario, _ map[string]string) { s.r.step(Event{Kind: EpochOver}) },
	"cut":         func(s *scenario, _ map[string]string) { s.r.step(Event{Kind: Cut}) },
	"wait": func(s *scenario, o map[string]string) { // until the core's next time has come, or for so long
		if d := o["for"]; d != "" {
			s.r.now = s.r.now.Add(s.duration(d))
			s.r.step(Event{Kind: Ticked})
		} else if !s.r.tick() {
			s.t.Fatal("the core waits for no time")
		}
	},
	"done": func(s *scenario, o map[string]string) { // the broker or the pool answers what was requested first, or what=...
		s.serve(o)
	},
	"refuse": func(s *scenario, o map[string]string) { // the pool has no slot
		i := s.pending(map[string]string{"what": "acquire"})
		a := s.r.pending[i]
		s.r.pending = slices.Delete(s.r.pending, i, i+1)
		r := Refusal{Reason: map[string]Reason{"worker": NoWorker, "room": NoRoom, "breaker": BreakerOpen, "stopping": Stopping, "elsewhere": OtherHost}[o["reason"]], RetryAfter: 10 * time.Second}
		switch r.Reason {
		case NoWorker:
			r.Err = jobs.Errorf(jobs.Initialization, jobs.CodeWorkerStart, "no worker can be started").Again()
		case BreakerOpen:
			r.Name, r.Err = "pool:h1", jobs.Errorf(jobs.Resource, jobs.CodeBreakerOpen, "the circuit breaker is open").Again()
		}
		s.r.step(Event{Kind: SlotRefused, Op: a.Op, Refusal: r})
	},
	"answer": func(s *scenario, o map[string]string) { // the worker: nothing is success
		if len(s.r.calls) != 1 {
			s.t.Fatalf("%d calls run", len(s.r.calls))
		}
		for op := range s.r.calls {
			switch o["error"] {
			case "":
				s.r.succeed(op)
			case "again":
				s.r.answer(op, Output{Err: jobs.Errorf(jobs.Connection, jobs.CodeWorkerDied, "the worker died").Again()})
			default:
				s.r.answer(op, Output{Err: jobs.Errorf(jobs.Python, "bad_input", "the arguments are wrong")})
			}
		}
	},
	"stale": func(s *scenario, _ map[string]string) { // the call did not go out: the lease was over
		for op := range s.r.calls {
			s.r.answer(op, Output{Stale: true})
		}
	},
	"step": func(s *scenario, o map[string]string) { s.store.step += s.duration(o["by"]) }, // the broker's clock is set
	"lose": func(s *scenario, _ map[string]string) { // the bucket of records, which is made again
		delete(s.store.keys, "record")
		delete(s.store.keys, "attempt record")
		s.store.lost = true
	},
	"put": func(s *scenario, o map[string]string) { // somebody else writes
		switch {
		case o["result"] != "":
			body := (&jobs.Reply{Job: o["result"], Attempt: 1, Session: "s", Result: []byte{0xc0}}).Append(nil)
			req, _ := jobs.ParseRequest(jobs.JSON, s.body(o), 0)
			res := jobs.Result{Session: "s", Job: o["result"], Attempt: 1, Hash: req.Hash, Kind: jobs.Succeeded, Body: body}
			s.store.put("result "+o["result"], res.Append(nil), s.store.keys["result "+o["result"]].Revision, s.now())
		case o["foreign"] != "":
			res := jobs.Result{Session: "s", Job: "another", Attempt: 7, Kind: jobs.Succeeded, Body: []byte{0xc0}}
			s.store.put("result "+o["foreign"], res.Append(nil), s.store.keys["result "+o["foreign"]].Revision, s.now())
		case o["record"] == "newer":
			s.store.put("record", []byte{0x9e, 99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, s.store.keys["record"].Revision, s.now())
		case o["last"] != "":
			rec := jobs.Record{Stream: int64(s.number(o, "stream", 7)), LastSequence: s.number(o, "last", 0), State: []byte("theirs"), StateVersion: 1, Updated: s.now()}
			if id := o["decided"]; id != "" {
				reply := jobs.Reply{Job: id, Attempt: 1, Session: "s", Result: []byte{0xc0}}
				rec.Last = &jobs.Outcome{Job: id, Sequence: rec.LastSequence, Epoch: 1, Attempt: 1, Kind: jobs.Succeeded, Mode: jobs.ModeCall, Body: reply.Append(nil)}
			}
			s.store.put("record", rec.Append(nil), s.store.keys["record"].Revision, s.now())
		}
	},
	"take": func(s *scenario, o map[string]string) { s.store.epoch, s.store.host = s.store.epoch+1, o["host"] }, // another owner
}

func (s *scenario) now() time.Time {
	if s.r == nil {
		return begin
	}
	return s.r.now
}

// pending finds what was requested: the first, or what=...
func (s *scenario) pending(o map[string]string) int {
	what := strings.ReplaceAll(o["what"], "_", " ")
	i := slices.IndexFunc(s.r.pending, func(a Action) bool { return what == "" || a.Kind.String() == what })
	if i < 0 {
		s.t.Fatalf("nothing like %q was asked for", what)
	}
	return i
}

func (s *scenario) serve(o map[string]string) {
	fault := map[string]Fault{"": NoFault, "wrong": WrongRevision, "unknown": Unknown, "full": NoSpace, "failed": Failed}[o["fault"]]
	_, applied := o["applied"]
	s.r.serve(s.pending(o), fault, applied)
}

func (s *scenario) job(seq uint64, o map[string]string) *Job {
	if j := s.jobs[seq]; j != nil { // a redelivery
		return &Job{Sequence: j.Sequence, Stored: j.Stored, Env: j.Env, Bad: j.Bad, Data: s.store.bodies[seq], Size: j.Size, Delivered: int(s.number(o, "delivered", 1))}
	}
	h := nats.Header{}
	if o["job"] != "" {
		h.Set(jobs.HeaderJob, o["job"])
	}
	if o["mode"] != "" {
		h.Set(jobs.HeaderMode, o["mode"])
	}
	if d := o["deadline"]; d != "" {
		h.Set(jobs.HeaderDeadline, strconv.FormatInt(s.duration(d).Milliseconds(), 10))
	}
	h.Set(jobs.HeaderReplyTo, "_INBOX.x")
	data := s.body(o)
	s.store.bodies[seq] = data
	j := &Job{Sequence: seq, Stored: s.r.broker(), Data: data, Size: len(data), Delivered: int(s.number(o, "delivered", 1))}
	j.Env, j.Bad = jobs.ParseHeaders(h, seq)
	s.jobs[seq] = j
	if _, dropped := o["dropped"]; dropped {
		j.Unkept = true
	}
	return j
}

func (s *scenario) body(o map[string]string) []byte {
	command := o["command"]
	if command == "" {
		command = "predict"
	}
	options := `"backoff": "linear"`
	if n := o["retries"]; n != "" {
		options += `, "max_retries": ` + n
	}
	if n := o["timeout"]; n != "" {
		options += fmt.Sprintf(`, "timeout": %q`, n)
	}
	return fmt.Appendf(nil, `{"command": %q, "args": {"n": %q}, "options": {%s}}`, command, o["n"], options)
}

func (s *scenario) number(o map[string]string, key string, otherwise uint64) uint64 {
	if o[key] == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(o[key], 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

func (s *scenario) duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}
