package pyproc

import (
	"errors"
	"runtime"
	"sync"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/pyproc/proc"
)

// maxUnsent bounds the bytes that wait for a worker that does not read; calls beyond it wait. A few frames more may be there.
const maxUnsent = 64 << 20

// errWriterClosed is what writes fail with when the worker has ended: its calls get the ExitError.
var errWriterClosed = errors.New("pyproc: the worker's pipe is closed")

// writer puts whole frames into the pipe, in the order of the calls. Nobody waits for a worker that does not read: what the
// pipe does not take at once is kept and pushed on by the run goroutine.
type writer struct {
	out    proc.Sink
	most   int           // bytes that may wait
	kick   chan struct{} // capacity 1: there is something to push
	stop   chan struct{}
	broken chan struct{} // closed when the pipe failed, or by close

	mu      sync.Mutex
	unsent  []byte        // after everything that is in the pipe or being pushed
	pushing bool          // bytes are with run: nothing may overtake them
	pushed  int           // how many
	room    chan struct{} // closed when there is room again; nil if nobody waits
	err     error
	head    [frame.HeaderSize]byte // scratch: a local one would escape through the sink
}

func newWriter(out proc.Sink) *writer {
	return &writer{out: out, most: maxUnsent, kick: make(chan struct{}, 1), stop: make(chan struct{}), broken: make(chan struct{})}
}

// awaitRoom waits until fewer than maxUnsent bytes are queued.
func (w *writer) awaitRoom(wait Wait) error {
	for {
		room := w.full()
		if room == nil {
			return nil
		}
		if err := wait(room); err != nil {
			return err
		}
	}
}

// full returns a channel that is closed when it is worth looking again, nil if there is room.
func (w *writer) full() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil || len(w.unsent)+w.pushed < w.most {
		return nil
	}
	if w.room == nil {
		w.room = make(chan struct{})
	}
	return w.room
}

// send writes one frame or queues what does not fit. It never waits. The body may be reused after it returns.
func (w *writer) send(t frame.Type, id uint64, body []byte) error {
	return w.gather(t, id, body, false)
}

// gather is send; with more it leaves a small frame to the run goroutine, so that several go out in one system call, and
// into one turn of the worker's loop.
func (w *writer) gather(t frame.Type, id uint64, body []byte, more bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	head := frame.AppendHeader(w.head[:0], t, id, len(body))
	n := 0
	if !w.pushing && len(w.unsent) == 0 && !(more && len(body) < proc.SmallFrame) {
		var err error
		if n, err = w.out.Try(head, body); err != nil {
			w.failLocked(err)
			return err
		}
	}
	if n == len(head)+len(body) {
		return nil
	}
	w.unsent = append(w.unsent, head[min(n, len(head)):]...)
	w.unsent = append(w.unsent, body[max(0, n-len(head)):]...)
	proc.Poke(w.kick)
	return nil
}

// run pushes what was queued until close.
func (w *writer) run() {
	var spare []byte
	for {
		select {
		case <-w.kick:
		case <-w.stop:
			return
		}
		runtime.Gosched() // behind everybody who is about to send, too
		for b := w.take(spare); b != nil; b = w.take(spare) {
			_, err := w.out.Write(b)
			w.finish(err)
			if spare = b[:0]; cap(spare) > 1<<20 {
				spare = nil // a large burst is over: give the memory back
			}
		}
	}
}

// take hands out everything queued and leaves spare for what comes next.
func (w *writer) take(spare []byte) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil || len(w.unsent) == 0 {
		return nil
	}
	b := w.unsent
	w.unsent, w.pushing, w.pushed = spare, true, len(b)
	return b
}

func (w *writer) finish(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pushing, w.pushed = false, 0
	if err != nil {
		w.failLocked(err)
	}
	w.openLocked()
}

// failLocked makes every further send fail.
func (w *writer) failLocked(err error) {
	if w.err == nil {
		w.err = err
		close(w.broken)
	}
	w.openLocked()
}

func (w *writer) openLocked() {
	if w.room != nil {
		close(w.room)
		w.room = nil
	}
}

// close ends run and every wait. It does not wait for unsent bytes.
func (w *writer) close() {
	w.mu.Lock()
	w.failLocked(errWriterClosed)
	w.mu.Unlock()
	close(w.stop)
	w.out.Close()
}
