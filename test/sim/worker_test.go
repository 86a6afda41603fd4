package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/host/workers"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

// pool is a host's workers: Go in place of Python, behind the interface that the Python pool has.
type pool struct {
	world *world
	who   string // the host's incarnation
	slots int    // of each worker
	gate  link   // cut while the host's process is stopped

	mu      sync.Mutex
	workers []*worker
	size    int
	dead    chan struct{} // closed: the host was killed, and its workers with it
	changed chan struct{} // closed and replaced whenever a slot may have come free
}

// worker holds, as a Python worker does, the states of the sessions that it served.
type worker struct {
	id     uint64
	name   string
	busy   int
	gone   chan struct{}
	states map[string]resident
	pushed string // the version of the pushed program that it has; "" nothing
}

type resident struct {
	version uint64
	state   []byte
}

var (
	errWorkerDied = errors.New("the worker died: signal: killed")
	errHostDied   = errors.New("the host's process is gone")
)

// respawn is the time that a worker needs to start.
const respawn = 100 * time.Millisecond

func newPool(w *world, who string, workers, slots int) *pool {
	p := &pool{world: w, who: who, slots: slots, size: workers, dead: make(chan struct{}), changed: make(chan struct{})}
	for n := range workers {
		p.workers = append(p.workers, p.spawn(n))
	}
	return p
}

func (p *pool) spawn(index int) *worker {
	return &worker{id: p.world.workerIDs.Add(1), name: fmt.Sprintf("%s/%d", p.who, index), gone: make(chan struct{}), states: map[string]resident{}}
}

// through waits while the host's process is stopped; false: it was killed.
func (p *pool) through() bool {
	for held := p.gate.gate(); held != nil; held = p.gate.gate() {
		select {
		case <-held:
		case <-p.dead:
			return false
		}
	}
	select {
	case <-p.dead:
		return false
	default:
		return true
	}
}

func (p *pool) SendAll(frame.Type, []byte) {}

func (p *pool) Checkout(want workers.Want, wait workers.Wait) (workers.Slot, error) {
	for {
		if !p.through() {
			return nil, errHostDied
		}
		w, changed := p.take(want.Prefer)
		if w != nil {
			return &slot{p, w}, nil
		}
		if err := wait(changed); err != nil {
			return nil, err
		}
	}
}

func (p *pool) take(prefer uint64) (*worker, chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var best *worker
	for _, w := range p.workers {
		if w == nil || w.busy >= p.slots {
			continue
		}
		if best == nil || w.id == prefer || w.busy < best.busy && best.id != prefer {
			best = w
		}
	}
	if best != nil {
		best.busy++
	}
	return best, p.changed
}

func (p *pool) announceLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *pool) Free() int {
	free, _, _ := p.Room()
	return free
}

func (p *pool) Room() (free, allowed int, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.workers {
		if w != nil {
			free += p.slots - w.busy
		}
	}
	return free, 0, p.changed
}

func (p *pool) Workers() workers.Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	found := workers.Counts{Size: p.size}
	for _, w := range p.workers {
		if w != nil {
			found.Active++
			if w.busy < p.slots {
				found.Available++
			}
		}
	}
	return found
}

// kill is the end of the host's process and of its workers.
func (p *pool) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.dead:
		return
	default:
	}
	close(p.dead)
	p.announceLocked()
}

// killWorker ends one worker, a busy one if there is one; another one takes its place.
func (p *pool) killWorker() (inFlight bool) {
	p.mu.Lock()
	index := slices.IndexFunc(p.workers, func(w *worker) bool { return w != nil && w.busy > 0 })
	if index < 0 {
		index = slices.IndexFunc(p.workers, func(w *worker) bool { return w != nil })
	}
	if index < 0 {
		p.mu.Unlock()
		return false
	}
	w := p.workers[index]
	inFlight = w.busy > 0
	p.mu.Unlock()
	p.end(w)
	return inFlight
}

func (p *pool) end(w *worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	index := slices.Index(p.workers, w)
	if index < 0 {
		return // it is gone already
	}
	close(w.gone)
	p.note(event{kind: died, who: p.who, text: w.name})
	p.workers[index] = nil
	p.world.wg.Go(func() {
		sleep(respawn)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.workers[index] = p.spawn(index)
		p.announceLocked()
	})
}

// note writes the journal, which a dead worker cannot.
func (p *pool) note(e event) {
	select {
	case <-p.dead:
	default:
		p.world.history.add(e)
	}
}

// slot is one place in a worker.
type slot struct {
	p *pool
	w *worker
}

func (s *slot) WorkerID() uint64      { return s.w.id }
func (s *slot) WorkerName() string    { return s.w.name }
func (s *slot) Exclusive(string) bool { return false }

// Send takes what was pushed.
func (s *slot) Send(t frame.Type, body []byte) error {
	if t != frame.Program {
		return nil
	}
	b, err := frame.ParseProgram(body)
	if err != nil {
		return err
	}
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.w.pushed = contentOf(b)
	return nil
}

// Engine is called right before an attempt's last look at the clock: there a stopped process stands still.
func (s *slot) Engine() string {
	s.p.through()
	return "sim 1"
}

func (s *slot) Release() {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.w.busy--
	s.p.announceLocked()
}

// work is what a job's arguments have the worker do.
type work struct {
	X    string `msgpack:"x"`
	MS   int    `msgpack:"ms"`   // how long it takes
	Fail int    `msgpack:"fail"` // this many attempts fail in a way that a retry may cure
	Die  int    `msgpack:"die"`  // this many attempts kill the worker
	Bad  bool   `msgpack:"bad"`  // it fails in a way that no retry cures
	Down bool   `msgpack:"down"` // the language model fails it, at every attempt, while faults strike
	Pad  int    `msgpack:"pad"`  // this many bytes more in its entry
}

func (s *slot) Call(body []byte, _ func([]byte), wait workers.Wait) (f frame.Frame, err error) {
	select { // a process that is stopped calls nobody: what comes here went out at the moment before, and the worker goes on
	case <-s.p.dead:
		return frame.Frame{}, errHostDied
	default:
	}
	c, err := frame.ParseCall(body)
	if err != nil {
		return frame.Frame{}, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f, err = s.serve(ctx, c)
		s.p.world.workerPoint(s.p, pointRunEnd)
		if !s.p.through() { // nobody reads the result while the host's process is stopped
			err = errHostDied
		}
	}()
	if gaveUp := wait(ended); gaveUp != nil {
		cancel()
		<-ended
		return frame.Frame{}, gaveUp
	}
	return f, err
}

func (s *slot) serve(ctx context.Context, c frame.CallBody) (frame.Frame, error) {
	var job work
	if err := wire.Decode(c.Args, &job); err != nil {
		return frame.Frame{}, err
	}
	s.p.mu.Lock()
	held, program := s.w.states[c.Session], s.w.pushed
	s.p.mu.Unlock()
	state := c.State
	if state == nil && c.StateVersion > 0 {
		if held.version != c.StateVersion {
			return failure(jobs.Session, jobs.CodeStateMissing, true), nil
		}
		state = held.state
	}
	list := []string{}
	if state != nil {
		if err := wire.Decode(state, &list); err != nil {
			return frame.Frame{}, err
		}
	}
	run := event{kind: began, who: s.p.who, session: c.Session, job: c.Job, attempt: int(c.Attempt), list: list, text: s.w.name, program: program}
	s.p.note(run)
	s.p.world.workerPoint(s.p, pointRunStart)
	select {
	case <-time.After(time.Duration(job.MS) * time.Millisecond):
	case <-ctx.Done():
		run.kind, run.text = ended, "cancelled"
		s.p.note(run)
		return frame.Frame{}, ctx.Err()
	case <-s.w.gone:
		return frame.Frame{}, errWorkerDied
	case <-s.p.dead:
		return frame.Frame{}, errHostDied
	}
	switch {
	case int(c.Attempt) <= job.Die:
		run.kind, run.text = ended, "kills its worker"
		s.p.note(run)
		s.p.end(s.w)
		return frame.Frame{}, errWorkerDied
	case int(c.Attempt) <= job.Fail:
		run.kind, run.text = ended, "fails"
		s.p.note(run)
		return failure(jobs.Connection, "lost", true), nil
	case job.Down && time.Since(s.p.world.history.start) < s.p.world.plan.active:
		run.kind, run.text = ended, "fails"
		s.p.note(run)
		return failure(jobs.Connection, "lm_connection", true), nil
	case job.Bad:
		run.kind, run.text = ended, "fails for good"
		s.p.note(run)
		return failure(jobs.Python, "user_error", false), nil
	}
	run.kind, run.text = ended, "done"
	s.p.note(run)
	return s.finish(c, job, list)
}

// finish makes the result: the list with this execution's own entry, so that a fork of the state shows.
func (s *slot) finish(c frame.CallBody, job work, list []string) (frame.Frame, error) {
	r := frame.ResultBody{Value: wire.AppendBool(nil, true), Meta: wire.AppendMap(nil, 0), StateVersion: c.StateVersion}
	switch c.Command {
	case "cleanup_session":
		s.p.mu.Lock()
		delete(s.w.states, c.Session)
		s.p.mu.Unlock()
	case "append", "predict": // one that calls the language model
		entry := fmt.Sprintf("%s#%d%s", job.X, s.p.world.runs.Add(1), strings.Repeat(".", job.Pad))
		next, err := wire.Encode(append(slices.Clone(list), entry))
		if err != nil {
			return frame.Frame{}, err
		}
		r.Value = next
		if c.Session != "" {
			r.State, r.StateVersion = next, c.StateVersion+1
			s.p.mu.Lock()
			s.w.states[c.Session] = resident{r.StateVersion, next}
			s.p.mu.Unlock()
		}
	case "push_program", "withdraw_program":
		meta, err := wire.Encode(map[string]any{"program": pushes(c.Command, job.X)})
		if err != nil {
			return frame.Frame{}, err
		}
		r.Meta = meta
	default:
		return failure(jobs.Python, "unknown_command", false), nil
	}
	return frame.Frame{Type: frame.Result, Body: r.AppendBody(nil)}, nil
}

func failure(category jobs.Category, code string, retryable bool) frame.Frame {
	detail := wire.AppendBool(wire.AppendStr(wire.AppendMap(nil, 1), "retryable"), retryable)
	b := frame.ErrorBody{Category: string(category), Code: code, Message: "scripted", Detail: detail}
	return frame.Frame{Type: frame.Error, Body: b.AppendBody(nil)}
}

// simModel names the breaker of the only language model.
const simModel = "lm.sim/model"

// models is a host with one language model, which workers need not receive.
type models struct{}

func (models) Named(string) (jobs.Model, *jobs.Error)  { return jobs.Model{Breaker: simModel}, nil }
func (models) Chosen([]byte) (jobs.Model, *jobs.Error) { return jobs.Model{Breaker: simModel}, nil }
func (models) Default() (jobs.Model, *jobs.Error)      { return jobs.Model{Breaker: simModel}, nil }
func (models) SetDefault([]byte) *jobs.Error           { return nil }
