package pyproc

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/dspex/dspex/internal/frame"
)

// stop asks a worker to end, then insists, and returns cause. What is left of it is up to end.
func (w *worker) stop(cause error) error {
	grace := w.pool.cfg.StopGrace
	w.pool.retire(w, Stopping)
	_ = w.out.send(frame.Shutdown, 0, frame.ShutdownBody{GraceMS: uint64(grace.Milliseconds())}.AppendBody(nil))
	if !w.exitsWithin(grace) {
		w.child.signal(syscall.SIGTERM)
		w.exitsWithin(termGrace)
	}
	return cause
}

func closedWithin(c <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c:
		return true
	case <-timer.C:
		return false
	}
}

// end brings the worker to its end, whatever that takes. cause is why the host wants it, nil if the worker began it. stage
// is where the worker was. Afterwards its supervisor may start another one; only a process that SIGKILL does not end is
// still there then, and Run waits for it.
func (w *worker) end(stage State, cause error) *ExitError {
	w.pool.shut(w)
	if cause == nil && !w.exitsWithin(exitGrace) {
		cause = w.protocolError("closed a pipe and did not end", nil)
	}
	w.dump(stage, cause)
	if !isClosed(w.exited) {
		w.pool.move(w.supervisor, Killing, cause)
		w.child.signal(syscall.SIGKILL)
		if !w.exitsWithin(reapTimeout) {
			err := &ExitError{Worker: w.name, PID: w.child.pid, Stage: stage, Code: -1, StderrTail: w.logs.tail.String(), Cause: cause}
			w.failCalls(err)
			w.pool.lingering.Go(func() {
				<-w.exited
				_ = w.bury(stage, cause) // the error was handed out already
			})
			return err
		}
	}
	return w.bury(stage, cause)
}

// bury clears up after a process that has ended: kills what it left behind in its group, reaps it, reads its pipes to the
// end, fails its calls and waits for its goroutines.
func (w *worker) bury(stage State, cause error) *ExitError {
	w.child.signal(syscall.SIGKILL) // before reap: until then the group's number is taken, and the name of its directory
	w.pool.removeScratch(w.process)
	if w.channel != nil {
		w.channel.Close()
	}
	status := w.child.reap()
	if status.why != nil {
		cause = status.why
	}
	died := time.Now()
	// A grandchild that left the group may hold the pipes open: nobody waits for it long.
	if !closedWithin(w.read, drainTimeout) {
		w.child.fromWorker.Close()
		<-w.read
	}
	closedWithin(w.drained, drainTimeout-time.Since(died))
	err := &ExitError{
		Worker: w.name, PID: w.child.pid, Stage: stage, Code: status.code, Signal: status.signal, RSS: w.rss.Load(),
		StderrTail: w.logs.tail.String(), Cause: cause,
	}
	w.failCalls(err)
	w.closePipes(died)
	w.child.fromWorker.Close()
	w.out.close()
	w.all.Wait()
	return err
}

// removeScratch removes the directory of a process that has ended and is not reaped yet.
func (p *Pool) removeScratch(of *process) {
	if p.cfg.Scratch == "" {
		return
	}
	if err := os.RemoveAll(filepath.Join(p.cfg.Scratch, strconv.Itoa(of.child.pid))); err != nil {
		p.cfg.Log.Warn("worker_directory_not_removed", "worker", of.name, "error", err)
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

// startError says why a worker did not come to READY, in its own words if it had any.
func (w *worker) startError(stage State, cause error, exit *ExitError) *StartError {
	e := &StartError{Worker: w.name, Stage: stage, Err: exit}
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
