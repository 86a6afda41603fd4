package pyproc

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/pyproc/proc"
)

// stop requests a worker to end, then kills it, and returns cause. What is left of it is up to end.
func (w *worker) stop(cause error) error {
	grace := w.pool.cfg.StopGrace
	w.pool.retire(w, Stopping)
	_ = w.out.send(frame.Shutdown, 0, frame.ShutdownBody{GraceMS: uint64(grace.Milliseconds())}.AppendBody(nil))
	if !w.ExitsWithin(grace) {
		w.Child.Signal(syscall.SIGTERM)
		w.ExitsWithin(termGrace)
	}
	return cause
}

// end brings the worker to its end, whatever that takes. cause is the host's reason, nil if the worker began it. stage
// is where the worker was. Afterwards its supervisor may start another one; only a process that SIGKILL does not end is
// still there then, and Run waits for it.
func (w *worker) end(stage State, cause error) *ExitError {
	w.pool.shut(w)
	if cause == nil && !w.ExitsWithin(exitGrace) {
		cause = w.protocolError("closed a pipe and did not end", nil)
	}
	w.dump(stage, cause)
	if !proc.IsClosed(w.Exited) {
		w.pool.move(w.supervisor, Killing, cause)
		w.Child.Signal(syscall.SIGKILL)
		if !w.ExitsWithin(reapTimeout) {
			err := &ExitError{Worker: w.Name, PID: w.Child.PID, Stage: stage, Code: -1, StderrTail: w.Logs.Tail.String(), Cause: cause}
			w.failCalls(err)
			w.pool.lingering.Go(func() {
				<-w.Exited
				_ = w.cleanUp(stage, cause) // the error was handed out already
			})
			return err
		}
	}
	return w.cleanUp(stage, cause)
}

// dump adds to a hang where the worker's threads and given-up tasks stand, if the worker can still report it. One that has not
// sent HELLO may have no handler for the signal, which would kill it.
func (w *worker) dump(stage State, cause error) {
	var hung *HungError
	if !errors.As(cause, &hung) || stage == Spawning || stage == Handshake || proc.IsClosed(w.Exited) {
		return
	}
	w.pool.move(w.supervisor, Dumping, nil) // the cause follows when it is complete
	// What it reported by itself since the first call was given up: where a task stands is in no thread's stack.
	hung.Stack = w.RequestStacks(w.cancelMark(w.Logs.Tail.Mark()))
}

// cancelMark is the place in stderr when the oldest call that was given up was, or otherwise.
func (w *worker) cancelMark(otherwise int64) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.calls {
		if c.abandoned {
			otherwise = min(otherwise, c.mark)
		}
	}
	return otherwise
}

// cleanUp clears up after a process that has ended: kills what it left behind in its group, reaps it, reads its pipes to the
// end, fails its calls and waits for its goroutines.
func (w *worker) cleanUp(stage State, cause error) *ExitError {
	w.Child.Signal(syscall.SIGKILL) // before reap: until then the group's number is taken, and the name of its directory
	w.pool.removeScratch(w.Process)
	if w.channel != nil {
		w.channel.Close()
	}
	status := w.Child.Reap()
	if status.Why != nil {
		cause = status.Why
	}
	died := time.Now()
	// A grandchild that left the group may hold the pipes open: nobody waits for it long.
	if !proc.ClosedWithin(w.read, drainTimeout) {
		w.Child.FromWorker.Close()
		<-w.read
	}
	proc.ClosedWithin(w.Drained, drainTimeout-time.Since(died))
	err := &ExitError{
		Worker: w.Name, PID: w.Child.PID, Stage: stage, Code: status.Code, Signal: status.Signal, RSS: w.rss.Load(),
		StderrTail: w.Logs.Tail.String(), Cause: cause,
	}
	w.failCalls(err)
	w.ClosePipes(died)
	w.Child.FromWorker.Close()
	w.out.close()
	w.All.Wait()
	return err
}

// removeScratch removes the directory of a process that has ended and is not reaped yet.
func (p *Pool) removeScratch(of *proc.Process) {
	if p.cfg.Scratch == "" {
		return
	}
	if err := os.RemoveAll(filepath.Join(p.cfg.Scratch, strconv.Itoa(of.Child.PID))); err != nil {
		p.cfg.Log.Warn("worker_directory_not_removed", "worker", of.Name, "error", err)
	}
}

// failCalls ends every call in flight and refuses new ones.
func (w *worker) failCalls(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.death == nil {
		w.death = err
	}
	for id, c := range w.calls {
		delete(w.calls, id)
		c.endLocked(frame.Frame{}, err)
	}
}

// startError reports why a worker did not come to READY, in its own words if it had any.
func (w *worker) startError(stage State, cause error, exit *ExitError) *StartError {
	e := &StartError{Worker: w.Name, Stage: stage, Err: exit}
	own := lastWords(w.control)
	if errors.As(cause, &own) || own != nil {
		e.say(own)
	}
	return e
}

// lastWords looks for an ERROR that came with the end, when the owner had stopped to listen.
func lastWords(control <-chan frame.Frame) *reported {
	for {
		select {
		case f := <-control:
			if b, err := frame.ParseError(f.Body); f.Type == frame.Error && err == nil {
				return &reported{b}
			}
		default:
			return nil
		}
	}
}

// endLocked reports whether the slot waited for nothing but this.
func (c *call) endLocked(f frame.Frame, err error) (free bool) {
	c.done, c.final, c.err = true, f, err
	c.slot.call = nil
	proc.Poke(c.wake)
	return c.slot.released
}
