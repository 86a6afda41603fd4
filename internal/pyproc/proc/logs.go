package proc

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
)

// Bounds of what one worker may write to the log.
const (
	MaxLine      = 16 << 10 // bytes of one line; the rest of it is counted, not kept
	MaxTail      = 64 << 10 // bytes of stderr kept for the error of a dead worker
	linesPerTick = 2000     // lines in one logTick, all streams together
	logTick      = time.Second
	logQueue     = linesPerTick // lines that wait for the logger: it may be slow, the worker must not feel it
)

// Logs takes everything that a worker writes (two pipes and LOG frames) and passes it to the logger at a bounded rate.
// The pipes are always read to the end: a worker never waits because of what it prints.
type Logs struct {
	out   *slog.Logger
	lines chan Record
	Tail  *Tail

	mu         sync.Mutex
	tickEnds   time.Time
	passed     int // in this tick
	suppressed int // since the last note
}

// Record is a line of the log. A worker's text is an attribute: the messages are constants.
type Record struct {
	Level slog.Level
	Msg   string
	Attrs []slog.Attr
}

// The messages of workers' lines.
const (
	workerOutput  = "worker_output" // a line that it printed
	logSuppressed = "worker_log_suppressed"
)

func newLogs(out *slog.Logger) *Logs {
	return &Logs{out: out, lines: make(chan Record, logQueue), Tail: newTail()}
}

// run writes to the logger until lines is closed.
func (l *Logs) run() {
	for r := range l.lines {
		l.out.LogAttrs(context.Background(), r.Level, r.Msg, r.Attrs...) //nolint:sloglint // a constant of this package
	}
	l.mu.Lock()
	note, due := l.noteLocked()
	l.mu.Unlock()
	if due {
		l.out.LogAttrs(context.Background(), note.Level, note.Msg, note.Attrs...) //nolint:sloglint // a constant of this package
	}
}

// Add counts one line against the rate. It does not wait: a line for which there is no room is suppressed.
func (l *Logs) Add(now time.Time, r Record) {
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
func (l *Logs) turn(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turnLocked(now)
}

func (l *Logs) turnLocked(now time.Time) {
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
	default: // the logger is behind: the count goes on and is answered at the next tick
		l.suppressed += int(note.Attrs[0].Value.Int64())
	}
}

func (l *Logs) noteLocked() (Record, bool) {
	n := l.suppressed
	l.suppressed = 0
	return Record{slog.LevelWarn, logSuppressed, []slog.Attr{slog.Int("suppressed", n)}}, n > 0
}

// noteDue is when turn has something to report, zero if it has not.
func (l *Logs) noteDue() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.suppressed == 0 {
		return time.Time{}
	}
	return l.tickEnds
}

// drain reads one pipe to its end, or until its owner closes it. keep receives every byte before it is cut into lines;
// nil keeps none.
func (l *Logs) drain(pipe LogPipe, stream string, keep *Tail) {
	buf := make([]byte, 32<<10)
	var lines lineCutter
	emit := func(line []byte, cut int) {
		r := Record{slog.LevelInfo, workerOutput, []slog.Attr{slog.String("text", string(line)), slog.String("stream", stream)}}
		if cut > 0 {
			r.Attrs = append(r.Attrs, slog.Int("bytes_cut", cut))
		}
		l.Add(time.Now(), r)
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

// lineCutter cuts a stream at \n and \r. A line longer than MaxLine is cut short.
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
	kept := min(len(part), MaxLine-len(c.line))
	c.line = append(c.line, part[:kept]...)
	c.cut += len(part) - kept
}

func (c *lineCutter) end(emit func(line []byte, cut int)) {
	if len(c.line) > 0 {
		emit(c.line, c.cut)
	}
	c.line, c.cut = c.line[:0], 0
}

// Tail keeps the last MaxTail bytes.
type Tail struct {
	Grew chan struct{} // capacity 1: bytes have come

	mu    sync.Mutex
	buf   []byte // up to twice MaxTail, so that bytes move seldom
	total int64  // bytes that ever came
}

func newTail() *Tail { return &Tail{Grew: make(chan struct{}, 1)} }

func (t *Tail) write(b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer Poke(t.Grew)
	t.total += int64(len(b))
	if len(b) > MaxTail {
		b = b[len(b)-MaxTail:]
	}
	if len(t.buf)+len(b) > 2*MaxTail {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-MaxTail:]...)
	}
	t.buf = append(t.buf, b...)
}

func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.ToValidUTF8(string(t.buf[max(0, len(t.buf)-MaxTail):]), "\uFFFD")
}

// Mark is a place in the stream: what has come so far lies before it.
func (t *Tail) Mark() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.total
}

// Since returns what has come after the mark, as far as it is kept.
func (t *Tail) Since(mark int64) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := min(t.total-mark, int64(len(t.buf)))
	return string(t.buf[int64(len(t.buf))-n:])
}

// Poke leaves a mark in a channel of capacity 1.
func Poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
