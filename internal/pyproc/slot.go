package pyproc

import (
	"context"
	"time"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/pyproc/proc"
	"github.com/dspex/dspex/internal/wire"
)

// Bounds of the partial output of one call that nobody has read yet. What is over is dropped and counted.
const (
	maxPartials     = 1024
	maxPartialBytes = 16 << 20
)

// WorkerID identifies the worker's incarnation. It is never 0 and never used again by this process.
func (s *Slot) WorkerID() uint64 { return s.w.id }

// WorkerName returns "<host>/<n>".
func (s *Slot) WorkerName() string { return s.w.Name }

// Engine returns the engine that the worker named in READY.
func (s *Slot) Engine() string { return s.w.ready.Engine }

// EngineVersion returns the version that the worker named in READY, "" if none.
func (s *Slot) EngineVersion() string { return s.w.ready.EngineVersion }

// Exclusive reports whether the worker reports that the command has to run alone.
func (s *Slot) Exclusive(command string) bool { return s.w.exclusive[command] }

// Send sends a frame with id 0. The worker reads it before any later Send or Call of this slot. Send does not wait.
func (s *Slot) Send(t frame.Type, body []byte) error {
	if most := s.w.pool.cfg.MaxFrame; len(body) > most {
		return &TooLargeError{Size: len(body), Max: most}
	}
	if err := s.w.deathError(); err != nil {
		return err
	}
	return s.w.out.send(t, 0, body)
}

// SendAll sends a frame with id 0 to every worker that serves, as far as its pipe takes it. It does not wait.
func (p *Pool) SendAll(t frame.Type, body []byte) {
	p.mu.Lock()
	var serving []*worker
	for _, s := range p.supervisors {
		if s.w != nil && s.state.Serving() {
			serving = append(serving, s.w)
		}
	}
	p.mu.Unlock()
	for _, w := range serving {
		_ = w.out.send(t, 0, body) // a worker that ends has dropped it already
	}
}

// Call sends a CALL and waits for its RESULT or ERROR frame, whose body is checked and parses. partial, if not nil, gets
// the checked body of each CHUNK before that, on the caller's goroutine; chunks beyond 1,024 or 16 MiB that it has not
// come to are dropped. The body may be reused when Call returns.
//
// When ctx ends Call returns its error at once and sends CANCEL; the slot stays taken, also after Release, until the
// worker answers, or is killed because it has not within 2 s. Other errors: *ExitError when the worker died, *ProtocolError when it
// answered garbage (it is killed), *TooLargeError and ErrInUse when nothing was sent.
func (s *Slot) Call(ctx context.Context, body []byte, partial func(body []byte)) (frame.Frame, error) {
	if err := ctx.Err(); err != nil {
		return frame.Frame{}, err
	}
	return s.CallFunc(body, partial, waitFor(ctx))
}

// CallFunc is Call for a caller who has other things to do while it waits: wait is called on the caller's goroutine, and
// the call is given up with its error.
func (s *Slot) CallFunc(body []byte, partial func(body []byte), wait Wait) (frame.Frame, error) {
	w := s.w
	if most := w.pool.cfg.MaxFrame; len(body) > most {
		return frame.Frame{}, &TooLargeError{Size: len(body), Max: most}
	}
	c, others, err := w.begin(s, partial != nil)
	if err != nil {
		return frame.Frame{}, err
	}
	if err := w.out.awaitRoom(wait); err != nil {
		w.forget(c)
		return frame.Frame{}, err
	}
	_ = w.out.gather(frame.Call, c.id, body, others) // if the pipe fails the worker's end is near and ends the call with the reason
	return w.await(wait, c, partial)
}

// Release gives the slot back. Further calls of it do nothing.
func (s *Slot) Release() {
	w := s.w
	w.mu.Lock()
	free := !s.released && s.call == nil
	s.released = true
	w.mu.Unlock()
	if free {
		w.pool.giveBack(s)
	}
}

// begin also reports whether the worker has other calls.
func (w *worker) begin(s *Slot, wants bool) (*call, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.death != nil {
		return nil, false, w.death
	}
	if s.released || s.call != nil {
		return nil, false, ErrInUse
	}
	w.lastCall++
	c := &call{id: w.lastCall, slot: s, wants: wants, wake: make(chan struct{}, 1)}
	w.calls[c.id], s.call = c, c
	w.jobs.Add(1)
	return c, len(w.calls) > 1, nil
}

// forget removes a call that was not sent.
func (w *worker) forget(c *call) {
	w.mu.Lock()
	delete(w.calls, c.id)
	c.slot.call = nil
	w.mu.Unlock()
}

// await is the caller's side of a call: it hands on what the reader puts into c.
func (w *worker) await(wait Wait, c *call, partial func([]byte)) (frame.Frame, error) {
	for {
		if err := wait(c.wake); err != nil && w.abandon(err, c) {
			return frame.Frame{}, err
		}
		partials, done := w.collect(c)
		for _, b := range partials {
			if err := wait(isReady); err != nil && w.abandon(err, c) {
				return frame.Frame{}, err
			}
			if err := wire.Check(b, wire.Pass); err != nil {
				return frame.Frame{}, w.breakWith(frame.Chunk.String()+" is no value", err)
			}
			partial(b)
		}
		if done {
			return w.conclude(c)
		}
	}
}

// isReady is closed.
var isReady = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// collect takes the partials that have come. After done, c is the caller's alone.
func (w *worker) collect(c *call) (partials [][]byte, done bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	partials, c.partials, c.bytes = c.partials, nil, 0
	return partials, c.done
}

func (w *worker) conclude(c *call) (frame.Frame, error) {
	if c.dropped > 0 {
		w.dropped.Add(uint64(c.dropped))
		w.pool.cfg.Log.Warn("partial_output_dropped", "worker", w.Name, "call", c.id, "dropped", c.dropped)
	}
	if c.err != nil {
		return frame.Frame{}, c.err
	}
	var err error
	if c.final.Type == frame.Result {
		_, err = frame.ParseResult(c.final.Body)
	} else {
		_, err = frame.ParseError(c.final.Body)
	}
	if err != nil {
		return frame.Frame{}, w.breakWith("unreadable answer", err)
	}
	return c.final, nil
}

// abandon gives a call up and sends the worker its cancellation. It reports false if the end has come already.
func (w *worker) abandon(why error, c *call) bool {
	mark := w.Logs.Tail.Mark()
	w.mu.Lock()
	if c.done {
		w.mu.Unlock()
		return false
	}
	c.abandoned, c.partials, c.due, c.mark = true, nil, time.Now().Add(cancelGrace), mark
	w.mu.Unlock()
	w.pool.countCancelling(w, +1)
	reason := frame.CancelBody{Reason: why.Error()}
	_ = w.out.send(frame.Cancel, c.id, reason.AppendBody(nil))
	proc.Poke(w.look)
	return true
}
