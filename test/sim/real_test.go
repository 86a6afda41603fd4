package sim

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/jobs"
)

var roundsFlag = flag.Int("rounds", 1, "how often TestRealProcesses does each of its faults")

// realPatience bounds what takes seconds on an idle machine.
const realPatience = 2 * time.Minute

// real is the same system as processes: a nats-server, dispatchers, worker-hosts with Python workers. The history and its
// checkers are those of the simulation; the journal of starts is read from the attempt records, which are written before each start.
type real struct {
	t       *testing.T
	fleet   *fleet
	history *history
	tap     *realTap
	rnd     *rand.Rand
	done    atomic.Int64 // jobs with an outcome
	ended   sync.WaitGroup
	stop    context.CancelFunc
	ctx     context.Context
}

// realTap notes a start for every attempt record that is no retry.
type realTap struct {
	*tap
	mu   sync.Mutex
	jobs map[string]string // session/sequence -> job
}

func (p *realTap) see(m *nats.Msg) {
	e, ok := p.read(m)
	if !ok {
		return
	}
	p.h.add(e)
	p.mu.Lock()
	defer p.mu.Unlock()
	k := fmt.Sprint(e.session, "/", e.seq)
	switch {
	case e.kind == stored:
		p.jobs[k] = e.job
	case e.kind == attemptRecorded && e.text == "":
		e.kind, e.job, e.who = began, p.jobs[k], "head"
		p.h.add(e)
	}
}

const realSessions = 24

// TestRealProcesses kills and stops workers, hosts and dispatchers under load. All that the simulation promises must hold.
func TestRealProcesses(t *testing.T) {
	r := newReal(t, true)
	for range *roundsFlag {
		for _, f := range []struct {
			name string
			do   func()
		}{
			{"worker killed", func() { r.fleet.signalWorker(r.rnd, syscall.SIGKILL) }},
			{"host killed", func() { r.fleet.host(r.rnd).kill(); r.fleet.startHost() }},
			{"worker stopped", func() { r.fleet.signalWorker(r.rnd, syscall.SIGSTOP) }},
			{"dispatcher killed", func() { r.fleet.dispatcher(r.rnd).kill(); r.fleet.startDispatcher() }},
			{"host stopped and continued", func() { r.freeze(r.fleet.host(r.rnd)) }},
			{"dispatcher stopped and continued", func() { r.freeze(r.fleet.dispatcher(r.rnd)) }},
		} {
			r.strike(f.name, f.do)
		}
	}
	r.finish()
	for _, v := range check(r.history, time.Hour) {
		t.Error(v)
	}
	t.Logf("%d jobs in %d sessions", r.done.Load(), realSessions)
}

// TestTheBrokerIsKilled kills the broker under load. What it had republished last may be lost with it, so the promises are
// read from what clients saw and what is stored at the end.
func TestTheBrokerIsKilled(t *testing.T) {
	r := newReal(t, false)
	for range *roundsFlag {
		r.strike("broker killed", func() { r.fleet.broker.kill(); r.fleet.startBroker() })
		r.strike("broker stopped and continued", func() { r.freeze(r.fleet.broker) })
	}
	r.finish()
	r.checkAnswers()
	t.Logf("%d jobs in %d sessions", r.done.Load(), realSessions)
}

func newReal(t *testing.T, tapped bool) *real {
	r := &real{t: t, history: newHistory(8), rnd: rand.New(rand.NewPCG(1, 2))}
	r.ctx, r.stop = context.WithCancel(t.Context())
	r.fleet = newFleet(t)
	nc := r.fleet.connect()
	tp := &tap{h: r.history, nc: nc}
	r.tap = &realTap{tap: tp, jobs: map[string]string{}}
	if err := tp.open(); err != nil {
		t.Fatal(err)
	}
	if tapped {
		sub, err := nc.Subscribe(tapPrefix+">", r.tap.see)
		if err != nil {
			t.Fatal(err)
		}
		if err := sub.SetPendingLimits(-1, -1); err != nil {
			t.Fatal(err)
		}
	}
	if err := tp.prepare(r.ctx, plan{partitions: r.history.partitions}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r.fleet.startDispatcher()
	}
	for range 3 {
		r.fleet.startHost()
	}
	for n := range realSessions {
		r.ended.Go(func() { r.converse(fmt.Sprintf("real-%d", n), n%2 == 0) })
	}
	r.progress(realSessions)
	return r
}

// strike does a fault with jobs in flight and waits until all sessions go on.
func (r *real) strike(name string, do func()) {
	r.t.Helper()
	r.progress(realSessions)
	r.history.add(event{kind: fault, who: "director", text: name})
	began := time.Now()
	do()
	r.progress(3 * realSessions)
	r.t.Logf("%-34s %d jobs later all is well, %.1f s", name, 3*realSessions, time.Since(began).Seconds())
}

// freeze stops a process for longer than the lease, so that it comes back as one that has been given up.
func (r *real) freeze(p *proc) {
	p.signal(syscall.SIGSTOP)
	r.hold(12 * time.Second)
	p.signal(syscall.SIGCONT)
}

func (r *real) hold(d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.ctx.Done():
	}
}

// progress waits for n more outcomes.
func (r *real) progress(n int64) {
	r.t.Helper()
	until, end := r.done.Load()+n, time.Now().Add(realPatience)
	for r.done.Load() < until {
		if time.Now().After(end) || r.t.Failed() {
			r.t.Fatalf("%d outcomes were expected within %v, %d came", n, realPatience, r.done.Load()-until+n)
		}
		r.hold(20 * time.Millisecond)
	}
}

func (r *real) finish() {
	r.t.Helper()
	r.stop()
	ended := make(chan struct{})
	go func() { r.ended.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(realPatience):
		r.t.Fatal("a client waits for ever")
	}
	if err := r.fleet.drained(realPatience); err != nil {
		r.t.Error(err)
	}
}

// converse appends to one session, a job after the other, each with an id of its own, until it must stop.
func (r *real) converse(session string, call bool) {
	nc := r.fleet.connect()
	for turn := 0; r.ctx.Err() == nil; turn++ {
		o := op{session: session, job: fmt.Sprintf("t%d", turn), command: "append"}
		if !r.ask(nc, o, call) {
			r.history.add(event{kind: stuck, who: session, text: o.job})
			r.t.Errorf("%s/%s has no outcome", session, o.job)
			return
		}
		r.done.Add(1)
	}
}

// ask sends a job until its outcome is known.
func (r *real) ask(nc *nats.Conn, o op, call bool) bool {
	subject := jobs.SessionRef{Tenant: jobs.DefaultTenant, ID: o.session}.PublishSubject("")
	if call {
		subject = jobs.RPCSession + o.session
	}
	for end := time.Now().Add(realPatience); time.Now().Before(end); {
		m := nats.NewMsg(subject)
		m.Data = []byte(`{"command":"append","args":{"x":"` + o.job + `"}}`)
		m.Header.Set(jobs.HeaderJob, o.job)
		a, err := nc.RequestMsg(m, replyWait)
		if err == nil && call && r.answered(o, a.Data, a.Header.Get(jobs.HeaderJob) != "") {
			return true
		}
		if err == nil && !call && strings.Contains(string(a.Data), `"seq"`) {
			r.history.add(event{kind: accepted, who: o.session, session: o.session, job: o.job})
			for time.Now().Before(end) {
				if r.lookUp(nc, o) {
					return true
				}
			}
		}
		<-time.After(again)
	}
	return false
}

// answered notes a reply in JSON and reports whether it is the job's outcome.
func (r *real) answered(o op, body []byte, outcome bool) bool {
	if !outcome {
		return false
	}
	packed, err := fromJSON(body)
	var v reply
	if err == nil {
		err = decodeReply(string(packed), &v)
	}
	if err != nil {
		r.t.Errorf("%s/%s was answered with %q: %v", o.session, o.job, body, err)
		return true
	}
	r.history.add(event{kind: answered, who: o.session, session: o.session, job: o.job, attempt: v.Attempt, list: v.list(), body: string(packed), text: v.Error.Code, label: v.Session.State})
	return true
}

func (r *real) lookUp(nc *nats.Conn, o op) bool {
	ask, err := json.Marshal(map[string]any{"session": o.session, "job": o.job, "wait_ms": 5000})
	if err != nil {
		return false
	}
	m, err := nc.Request(jobs.RPCJobsGet, ask, replyWait)
	if err != nil {
		<-time.After(again)
		return false
	}
	var v struct {
		Result struct{ Reply json.RawMessage }
	}
	if json.Unmarshal(m.Data, &v) != nil || v.Result.Reply == nil {
		return false
	}
	return r.answered(o, v.Result.Reply, true)
}

// checkAnswers holds the answers against each other and against the stored results.
func (r *real) checkAnswers() {
	nc := r.fleet.connect()
	seen, lists := map[string]string{}, map[string][]string{}
	r.history.each(func(e event) {
		if before, again := seen[key(e)]; again && before != e.body {
			r.t.Errorf("%s has two answers: %s and %s", key(e), before, e.body)
		}
		seen[key(e)] = e.body
		if want := append(append([]string(nil), lists[e.session]...), e.job); e.text == "" && fmt.Sprint(e.list) != fmt.Sprint(want) {
			r.t.Errorf("%s saw %v, want %v (%s)", key(e), e.list, want, e.label)
		} else if e.text == "" {
			lists[e.session] = e.list
		}
	}, answered)
	for k, body := range seen {
		session, job, _ := strings.Cut(k, "/")
		again := len(r.history.all)
		if !r.lookUp(nc, op{session: session, job: job}) || r.history.all[again].body != body {
			r.t.Errorf("%s: what is stored at the end is not what was answered", k)
		}
	}
}
