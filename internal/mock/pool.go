package mock

import (
	"fmt"
	"sync/atomic"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/host/workers"
	"github.com/dspex/dspex/internal/wire"
)

// EngineName is the engine that replies name.
const EngineName = "mock"

// worker holds, as a Python worker does, the states of the sessions that it served.
type worker struct {
	id     uint64
	name   string
	busy   int // guarded by the pool's lock, as are the others
	states map[string]held
	calls  int
	errors int
}

type held struct {
	version uint64
	state   []byte
}

// heldMost bounds the states of a worker; beyond it all are dropped, and come from the record again.
const heldMost = 1024

var workerIDs atomic.Uint64

// NewPool makes the workers of a host. A nil scenario answers everything by itself.
func NewPool(name string, workers, slots int, s *Scenario) *Pool {
	p := &Pool{slots: slots, scenario: s, answers: s.Answers(), changed: make(chan struct{})}
	for n := range workers {
		p.workers = append(p.workers, &worker{id: workerIDs.Add(1), name: fmt.Sprintf("%s/%d", name, n), states: map[string]held{}})
	}
	return p
}

// Checkout takes a slot.
func (p *Pool) Checkout(want workers.Want, wait workers.Wait) (workers.Slot, error) {
	for {
		w, changed := p.take(want)
		if w != nil {
			return slot{p, w}, nil
		}
		if err := wait(changed); err != nil {
			return nil, err
		}
	}
}

func (p *Pool) take(want workers.Want) (*worker, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var best *worker
	for _, w := range p.workers {
		switch {
		case w.busy >= p.slots:
		case best == nil, w.id == want.Prefer, best.name == want.Avoid, w.busy < best.busy && best.id != want.Prefer && w.name != want.Avoid:
			best = w
		}
	}
	if best != nil {
		best.busy++
	}
	return best, p.changed
}

// SendAll drops a session that was erased; what else workers receive concerns Python.
func (p *Pool) SendAll(t frame.Type, body []byte) {
	if t != frame.Drop {
		return
	}
	d, err := frame.ParseDrop(body)
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.workers {
		delete(w.states, d.Session)
	}
}

// Free is the number of free slots.
func (p *Pool) Free() int {
	free, _, _ := p.Room()
	return free
}

// Room is the number of free slots; there are no overflow workers.
func (p *Pool) Room() (free, allowed int, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.workers {
		free += p.slots - w.busy
	}
	return free, 0, p.changed
}

// Workers is what serves: all of them.
func (p *Pool) Workers() workers.Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	found := workers.Counts{Size: len(p.workers), Active: len(p.workers)}
	for _, w := range p.workers {
		if w.busy < p.slots {
			found.Available++
		}
	}
	return found
}

func (s slot) WorkerID() uint64 { return s.w.id }

func (s slot) WorkerName() string { return s.w.name }

func (s slot) Engine() string { return EngineName }

func (s slot) Exclusive(string) bool { return false }

func (s slot) Send(frame.Type, []byte) error { return nil }

func (s slot) Release() {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.w.busy--
	close(s.p.changed)
	s.p.changed = make(chan struct{})
}

// Call answers at once.
func (s slot) Call(body []byte, partial func([]byte), _ workers.Wait) (frame.Frame, error) {
	asked, err := frame.ParseCall(body)
	if err != nil {
		return frame.Frame{}, err
	}
	c, e := s.open(asked)
	if e == nil {
		c.partial = partial
		var value any
		if value, e = c.run(); e == nil {
			return s.close(c, value)
		}
	}
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.w.errors++
	return e.frame(), nil
}

// open reads the call, with the state that it starts from.
func (s slot) open(body frame.CallBody) (*call, *failure) {
	c := &call{CallBody: body, slot: s}
	if wire.Decode(body.Args, &c.args) != nil || wire.Decode(body.Options, &c.options) != nil {
		return nil, &failure{category: "communication", code: "bad_frame", message: "the call cannot be read"}
	}
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.w.calls++
	if body.Session == "" {
		return c, nil
	}
	raw := body.State
	if raw == nil && body.StateVersion > 0 {
		h, there := s.w.states[body.Session]
		if !there || h.version != body.StateVersion {
			return nil, &failure{category: "session", code: "state_missing", message: "this worker does not hold the session's state", retryable: true}
		}
		raw = h.state
	}
	var e *failure
	c.state, e = readState(raw)
	return c, e
}

// close writes the result, and keeps the new state.
func (s slot) close(c *call, value any) (frame.Frame, error) {
	meta := map[string]any{}
	r := frame.ResultBody{StateVersion: c.StateVersion}
	var err error
	if r.Value, err = wire.Encode(value); err != nil {
		return frame.Frame{}, err
	}
	switch {
	case c.state == nil && c.choice != nil:
		meta["lm_choice"] = c.choice
	case c.state != nil:
		meta["lm_choice"] = c.state.LM // nil reports that the choice is gone
	}
	if c.changed {
		r.StateVersion++
		if r.State, err = c.state.bytes(r.StateVersion); err != nil {
			return frame.Frame{}, err
		}
		s.keep(c.Session, held{r.StateVersion, r.State})
	}
	if r.Meta, err = wire.Encode(meta); err != nil {
		return frame.Frame{}, err
	}
	return frame.Frame{Type: frame.Result, Body: r.AppendBody(nil)}, nil
}

func (s slot) keep(session string, h held) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if len(s.w.states) >= heldMost {
		clear(s.w.states)
	}
	s.w.states[session] = h
}
