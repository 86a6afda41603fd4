package pyproc

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/pyproc/pace"
	"github.com/dspex/dspex/internal/pyproc/proc"
	"github.com/dspex/dspex/internal/wire"
)

// lastWorker numbers the incarnations of the whole process, so that no two pools share an id.
var lastWorker atomic.Uint64

// control frames that may wait for the owner. A worker sends two at the start and one at the end.
const controlQueue = 8

func newWorker(s *supervisor, nonce string, c *proc.Child) *worker {
	p := s.pool
	return &worker{
		peer: peer{proc.NewProcess(s.name, c, p.cfg.Log)},
		pool: p, supervisor: s, id: lastWorker.Add(1), nonce: nonce, startedAt: time.Now(), spread: 0.9 + 0.2*rand.Float64(),
		out:     newWriter(c.ToWorker),
		control: make(chan frame.Frame, controlQueue), look: make(chan struct{}, 1), read: make(chan struct{}),
		calls: map[uint64]*call{},
	}
}

// launch starts the worker's goroutines. cleanUp ends them all.
func (w *worker) launch() {
	w.Watch(w.read) // LOG frames come from the reader
	w.All.Go(w.out.run)
	w.All.Go(func() {
		w.readErr = w.readFrames()
		w.pool.shut(w) // before the owner comes to it: nobody should be lent a dead worker
		close(w.read)
	})
}

// readFrames takes frames until the pipe ends. It waits for nobody but the worker.
func (w *worker) readFrames() error {
	r := bufio.NewReaderSize(w.Child.FromWorker, 64<<10)
	for {
		f, err := frame.Read(r, w.pool.cfg.MaxFrame)
		var broken *frame.ProtocolError
		switch {
		case errors.As(err, &broken):
			return &ProtocolError{Worker: w.Name, Problem: "unreadable frame", Err: err}
		case err != nil:
			return nil //nolint:nilerr // the end, in the middle of a frame or not: why it came is in the exit status
		}
		w.received.Store(true)
		if err := w.accept(f); err != nil {
			return err
		}
	}
}

func (w *worker) accept(f frame.Frame) error {
	switch {
	case f.Type == frame.Result, f.Type == frame.Error && f.ID != 0:
		return w.finish(f)
	case f.Type == frame.Chunk:
		w.addPartial(f)
	case f.Type == frame.Pong:
		b, err := frame.ParsePong(f.Body)
		if err != nil {
			return w.protocolError("unreadable PONG", err)
		}
		w.rss.Store(b.RSSBytes)
	case f.Type == frame.Log:
		return w.log(f)
	default:
		select {
		case w.control <- f:
		default:
			return w.protocolError("too many frames of type "+f.Type.String(), nil)
		}
	}
	return nil
}

// finish ends a call.
func (w *worker) finish(f frame.Frame) error {
	w.mu.Lock()
	c := w.calls[f.ID]
	if c == nil {
		w.mu.Unlock()
		return w.protocolError(f.Type.String()+" for a call that is not in flight", nil)
	}
	delete(w.calls, f.ID)
	free := c.endLocked(f, nil)
	w.mu.Unlock()
	if c.abandoned { // set before the end if ever
		w.pool.countCancelling(w, -1)
	}
	if free {
		w.pool.giveBack(c.slot)
	}
	return nil
}

// addPartial keeps a chunk for the caller if there is room. A chunk that comes after its call's end is nobody's.
func (w *worker) addPartial(f frame.Frame) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.calls[f.ID]
	switch {
	case c == nil || !c.wants || c.abandoned:
	case len(c.partials) >= maxPartials || c.bytes+len(f.Body) > maxPartialBytes:
		c.dropped++
	default:
		c.partials = append(c.partials, f.Body)
		c.bytes += len(f.Body)
		proc.Poke(c.wake)
	}
}

var levels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warning": slog.LevelWarn, "warn": slog.LevelWarn,
	"error": slog.LevelError, "critical": slog.LevelError,
}

// log passes on a LOG frame, at the rate and with the bounds of a printed line.
func (w *worker) log(f frame.Frame) error {
	b, err := frame.ParseLog(f.Body)
	if err != nil {
		return w.protocolError("unreadable LOG", err)
	}
	text := b.Message
	if len(text) > proc.MaxLine {
		text = strings.ToValidUTF8(text[:proc.MaxLine], "")
	}
	r := proc.Record{Level: levels[strings.ToLower(b.Level)], Msg: "worker_log", Attrs: []slog.Attr{slog.String("text", text), slog.String("logger", b.Logger)}}
	if cut := len(b.Message) - len(text); cut > 0 {
		r.Attrs = append(r.Attrs, slog.Int("bytes_cut", cut))
	}
	if b.Call != 0 {
		r.Attrs = append(r.Attrs, slog.Uint64("call", b.Call))
	}
	if len(b.Fields) > 1 && len(b.Fields) <= proc.MaxLine { // 1: the empty map
		if text, err := wire.AppendJSON(nil, b.Fields); err == nil {
			r.Attrs = append(r.Attrs, slog.String("fields", string(text)))
		}
	}
	w.Logs.Add(time.Now(), r)
	return nil
}

// breakWith has the worker killed for what a caller found in its answer.
func (w *worker) breakWith(problem string, err error) error {
	broken := w.protocolError(problem, err)
	w.mu.Lock()
	if w.broken == nil {
		w.broken = broken
	}
	w.mu.Unlock()
	w.pool.shut(w)
	proc.Poke(w.look)
	return broken
}

func (w *worker) brokenError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.broken
}

func (w *worker) deathError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.death
}

// nextDue is when the first abandoned call must have ended, zero if there is none.
func (w *worker) nextDue() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	var first time.Time
	for _, c := range w.calls {
		if c.abandoned && (first.IsZero() || c.due.Before(first)) {
			first = c.due
		}
	}
	return first
}

// attend watches a ready worker. It returns when the worker has to end or has ended: nil if by its own doing.
func (w *worker) attend(ctx context.Context) error {
	health, tick := pace.Health{}, time.NewTicker(lookEvery)
	w.adjust(&health, tick)
	defer tick.Stop()
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return w.stop(ErrStopped)
		case <-w.read:
			return w.readErr
		case <-w.Exited:
			return nil
		case <-w.out.broken:
			return nil
		case f := <-w.control:
			if err := w.onControl(f); err != nil {
				return err
			}
		case now := <-tick.C:
			w.adjust(&health, tick)
			if err := w.onTick(now, &health); err != nil {
				return err
			}
		case <-due.C:
		case <-w.look:
		}
		if err := w.check(due); err != nil {
			return err
		}
		if w.pool.drainedOut(w) {
			return w.stop(nil)
		}
	}
}

// adjust follows the limits of the pool.
func (w *worker) adjust(h *pace.Health, tick *time.Ticker) {
	l := w.pool.Limits()
	h.Every, h.Lost = l.PingEvery, l.PingLost
	if look := min(lookEvery, l.PingEvery); look != h.Look {
		h.Look = look
		tick.Reset(look)
	}
}

// onTick looks after what only time shows.
func (w *worker) onTick(now time.Time, h *pace.Health) error {
	own, err := w.checkMemory()
	if err != nil {
		return err
	}
	w.pool.tend(w, now, own)
	if w.pool.cfg.Basic {
		return nil
	}
	ping, lost := h.Tick(w.received.Swap(false))
	if lost {
		return &HungError{Worker: w.Name, Waited: h.Silent, For: "PONG"}
	}
	if !ping {
		return nil
	}
	_ = w.out.send(frame.Ping, 0, frame.PingBody{TNS: uint64(now.UnixNano())}.AppendBody(nil))
	return nil
}

// checkMemory returns the worker's own memory, as far as there is a limit, and an error if it is too much to let it live.
func (w *worker) checkMemory() (own uint64, err error) {
	limits := w.pool.Limits().Recycle
	if watched := limits.Watched(); watched > 0 {
		own = w.Child.OwnMemory(watched)
	}
	if limits.HardMemory > 0 && own >= uint64(limits.HardMemory) {
		return own, &MemoryError{Worker: w.Name, Own: own, Max: uint64(limits.HardMemory)}
	}
	return own, nil
}

// check looks for reasons to kill and sets the timer to the next one.
func (w *worker) check(due *time.Timer) error {
	if err := w.brokenError(); err != nil {
		return err
	}
	next := w.nextDue()
	if next.IsZero() {
		return nil
	}
	if !time.Now().Before(next) {
		return &HungError{Worker: w.Name, Waited: cancelGrace, For: "the end of a cancelled call"}
	}
	due.Reset(time.Until(next))
	return nil
}

func (w *worker) onControl(f frame.Frame) error {
	switch f.Type {
	case frame.Bye:
		w.pool.retire(w, Draining)
		return nil
	case frame.Error: // of the connection: nothing waits for it
		b, err := frame.ParseError(f.Body)
		if err != nil {
			return w.protocolError("unreadable ERROR", err)
		}
		w.pool.cfg.Log.Warn("worker_error", "worker", w.Name, "category", b.Category, "code", b.Code, "error", b.Message)
		return nil
	}
	return w.protocolError("unexpected "+f.Type.String(), nil)
}
