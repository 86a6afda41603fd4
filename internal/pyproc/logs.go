package pyproc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
)

// Bounds of what one worker may say to the log.
const (
	maxLine      = 16 << 10 // bytes of one line; the rest of it is counted, not kept
	maxTail      = 64 << 10 // bytes of stderr kept for the error of a dead worker
	linesPerTick = 2000     // lines in one logTick, all streams together
	logTick      = time.Second
	logQueue     = linesPerTick // lines that wait for the logger: it may be slow, the worker must not feel it
)

// logs takes everything that a worker says (two pipes and LOG frames) and passes it to the logger at a bounded rate.
// The pipes are always read to the end: a worker never waits because of what it prints.
type logs struct {
	out   *slog.Logger
	lines chan record
	tail  *tail

	mu         sync.Mutex
	tickEnds   time.Time
	passed     int // in this tick
	suppressed int // since the last note
}

// record is a line of the log. What a worker says is an attribute: the messages are constants.
type record struct {
	level slog.Level
	msg   string
	attrs []slog.Attr
}

// The messages of what workers say.
const (
	workerOutput  = "worker_output" // a line that it printed
	workerLog     = "worker_log"    // a LOG frame
	logSuppressed = "worker_log_suppressed"
)

func newLogs(out *slog.Logger) *logs {
	return &logs{out: out, lines: make(chan record, logQueue), tail: newTail()}
}

// run writes to the logger until lines is closed.
func (l *logs) run() {
	for r := range l.lines {
		l.out.LogAttrs(context.Background(), r.level, r.msg, r.attrs...) //nolint:sloglint // a constant of this package
	}
	l.mu.Lock()
	note, due := l.noteLocked()
	l.mu.Unlock()
	if due {
		l.out.LogAttrs(context.Background(), note.level, note.msg, note.attrs...) //nolint:sloglint // a constant of this package
	}
}

// add counts one line against the rate. It does not wait: a line for which there is no room is suppressed.
func (l *logs) add(now time.Time, r record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turnLocked(now)
	if l.passed >= linesPerTick {
		l.suppressed++
		return
	}
	select {
	case l.lines <- r:
		l.passed++
	default:
		l.suppressed++
	}
}

// turn begins a new tick if the old one is over, with a note of what was suppressed.
func (l *logs) turn(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turnLocked(now)
}

func (l *logs) turnLocked(now time.Time) {
	if now.Before(l.tickEnds) {
		return
	}
	l.tickEnds, l.passed = now.Add(logTick), 0
	note, due := l.noteLocked()
	if !due {
		return
	}
	select {
	case l.lines <- note:
	default: // the logger is behind: the count goes on and is told at the next tick
		l.suppressed += int(note.attrs[0].Value.Int64())
	}
}

func (l *logs) noteLocked() (record, bool) {
	n := l.suppressed
	l.suppressed = 0
	return record{slog.LevelWarn, logSuppressed, []slog.Attr{slog.Int("suppressed", n)}}, n > 0
}

// noteDue is when turn has something to tell, zero if it has not.
func (l *logs) noteDue() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.suppressed == 0 {
		return time.Time{}
	}
	return l.tickEnds
}

// logPipe is the host's end of fd 1 or 2 of a worker.
type logPipe interface {
	io.ReadCloser
	SetReadDeadline(time.Time) error
}

// drain reads one pipe to its end, or until its owner closes it. keep receives every byte before it is cut into lines;
// nil keeps none.
func (l *logs) drain(pipe logPipe, stream string, keep *tail) {
	buf := make([]byte, 32<<10)
	var lines lineCutter
	emit := func(line []byte, cut int) {
		r := record{slog.LevelInfo, workerOutput, []slog.Attr{slog.String("text", string(line)), slog.String("stream", stream)}}
		if cut > 0 {
			r.attrs = append(r.attrs, slog.Int("bytes_cut", cut))
		}
		l.add(time.Now(), r)
	}
	for {
		n, err := pipe.Read(buf)
		if n > 0 {
			if keep != nil {
				keep.write(buf[:n])
			}
			lines.feed(buf[:n], emit)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			l.turn(time.Now())
		} else if err != nil {
			lines.end(emit)
			return
		}
		_ = pipe.SetReadDeadline(l.noteDue()) // a silent pipe must not keep the note back
	}
}

// lineCutter cuts a stream at \n and \r. A line longer than maxLine is cut short.
type lineCutter struct {
	line []byte
	cut  int // bytes of the current line that were not kept
}

func (c *lineCutter) feed(b []byte, emit func(line []byte, cut int)) {
	for len(b) > 0 { // one turn for each \n: two searches for one byte are many times faster than one for either
		part, rest, ended := bytes.Cut(b, []byte{'\n'})
		for {
			i := bytes.IndexByte(part, '\r')
			if i < 0 {
				break
			}
			c.add(part[:i])
			c.end(emit)
			part = part[i+1:]
		}
		c.add(part)
		if ended {
			c.end(emit)
		}
		b = rest
	}
}

func (c *lineCutter) add(part []byte) {
	kept := min(len(part), maxLine-len(c.line))
	c.line = append(c.line, part[:kept]...)
	c.cut += len(part) - kept
}

func (c *lineCutter) end(emit func(line []byte, cut int)) {
	if len(c.line) > 0 {
		emit(c.line, c.cut)
	}
	c.line, c.cut = c.line[:0], 0
}

// tail keeps the last maxTail bytes.
type tail struct {
	grew chan struct{} // capacity 1: bytes have come

	mu    sync.Mutex
	buf   []byte // up to twice maxTail, so that bytes move seldom
	total int64  // bytes that ever came
}

func newTail() *tail { return &tail{grew: make(chan struct{}, 1)} }

func (t *tail) write(b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer poke(t.grew)
	t.total += int64(len(b))
	if len(b) > maxTail {
		b = b[len(b)-maxTail:]
	}
	if len(t.buf)+len(b) > 2*maxTail {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-maxTail:]...)
	}
	t.buf = append(t.buf, b...)
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.ToValidUTF8(string(t.buf[max(0, len(t.buf)-maxTail):]), "\uFFFD")
}

// mark is a place in the stream: what has come so far lies before it.
func (t *tail) mark() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.total
}

// since returns what has come after the mark, as far as it is kept.
func (t *tail) since(mark int64) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := min(t.total-mark, int64(len(t.buf)))
	return string(t.buf[int64(len(t.buf))-n:])
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
