// Package logfeed shows operators the log of a process through the broker: its last lines on request, and each new one while somebody
// follows (contract/logs.md). Nothing that logs waits for it.
package logfeed

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"
	"unicode/utf8"
)

// Bounds of what one process keeps and sends.
const (
	kept      = 200       // lines of each level
	maxValue  = 2 << 10   // bytes of one text in a line
	maxLine   = 8 << 10   // bytes of a line; the fields of a longer one are left out
	maxAnswer = 512 << 10 // bytes of the lines in an answer; the oldest are left out
	perSecond = 500       // lines that are sent in a second; more are counted
	waiting   = 1024      // lines that wait to be sent; the oldest are dropped for new ones
)

// followed is how long a process sends its lines after a request to do so.
const followed = 10 * time.Second

// levels are those of lines; debug stays in the process.
var levels = [...]string{"info", "warn", "error"}

// A Feed takes the log of a process.
type Feed struct {
	process, name string
	queue         chan []byte

	mu      sync.Mutex
	rings   [len(levels)]ring
	seq     uint64
	until   time.Time // somebody follows until then
	second  time.Time // the begin of the second that sent counts
	sent    int
	dropped int // lines that were not sent and not reported yet
}

// New makes a feed for a process: what it is (worker-host), and its name.
func New(process, name string) *Feed {
	return &Feed{process: process, name: name, queue: make(chan []byte, waiting)}
}

// Handler passes records on to next, and those that it takes and that are of level info or above to the feed.
func (f *Feed) Handler(next slog.Handler) slog.Handler {
	lines := slog.NewJSONHandler(lineWriter{f}, &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: replace})
	of := lines.WithAttrs([]slog.Attr{slog.String("process", f.process), slog.String("name", f.name)})
	return tee{next, of.WithGroup("fields")}
}

type tee struct{ next, lines slog.Handler }

func (t tee) Enabled(ctx context.Context, level slog.Level) bool { return t.next.Enabled(ctx, level) }

func (t tee) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelInfo {
		_ = t.lines.Handle(ctx, r) // into memory
	}
	return t.next.Handle(ctx, r)
}

func (t tee) WithAttrs(attrs []slog.Attr) slog.Handler {
	return tee{t.next.WithAttrs(attrs), t.lines.WithAttrs(attrs)}
}

func (t tee) WithGroup(name string) slog.Handler {
	return tee{t.next.WithGroup(name), t.lines.WithGroup(name)}
}

// replace gives a record the names of contract/logs.md, and bounds its texts.
func replace(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 {
		switch a.Key {
		case slog.TimeKey:
			return slog.Time("at", a.Value.Time().UTC())
		case slog.LevelKey:
			level, _ := a.Value.Any().(slog.Level)
			return slog.String("level", levels[rank(level)])
		case slog.MessageKey:
			return slog.String("message", cut(a.Value.String()))
		}
		return a
	}
	switch a.Value.Kind() {
	case slog.KindString:
		return slog.String(a.Key, cut(a.Value.String()))
	case slog.KindDuration: // as in the log itself
		return slog.String(a.Key, a.Value.Duration().String())
	case slog.KindAny:
		if err, ok := a.Value.Any().(error); ok && err != nil {
			return slog.String(a.Key, cut(err.Error()))
		}
	}
	return a
}

func rank(level slog.Level) int {
	switch {
	case level >= slog.LevelError:
		return 2
	case level >= slog.LevelWarn:
		return 1
	}
	return 0
}

// cut bounds a text.
func cut(text string) string {
	if len(text) <= maxValue {
		return text
	}
	end := maxValue
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

// lineWriter gets each line of the JSON handler in one call.
type lineWriter struct{ f *Feed }

func (w lineWriter) Write(line []byte) (int, error) {
	w.f.add(bounded(bytes.TrimRight(line, "\n")))
	return len(line), nil
}

// line is what every line has before its fields.
type line struct {
	At      time.Time `json:"at"`
	Level   string    `json:"level"`
	Message string    `json:"message"`
	Process string    `json:"process"`
	Name    string    `json:"name"`
	Fields  any       `json:"fields,omitempty"`
}

// bounded copies a line, without its fields if it is too long.
func bounded(text []byte) []byte {
	if len(text) <= maxLine {
		return bytes.Clone(text)
	}
	var l line
	if err := json.Unmarshal(text, &l); err != nil {
		return nil // no JSON comes from the handler
	}
	l.Fields = map[string]int{"bytes_left_out": len(text)}
	own, err := json.Marshal(l)
	if err != nil {
		panic(err) // texts and numbers always marshal
	}
	return own
}

// levelOf is the index of a line's level. Only the time is before it.
func levelOf(text []byte) int {
	_, rest, _ := bytes.Cut(text, []byte(`"level":"`))
	for i, name := range levels {
		if bytes.HasPrefix(rest, []byte(name)) {
			return i
		}
	}
	return 0
}

// add keeps a line, and has it sent if somebody follows.
func (f *Feed) add(text []byte) {
	if text == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seq++
	f.rings[levelOf(text)].add(f.seq, text)
	now := time.Now()
	if !now.Before(f.until) {
		return
	}
	if now.Sub(f.second) >= time.Second {
		f.second, f.sent = now, 0
	}
	if f.sent++; f.sent > perSecond {
		f.dropped++
		return
	}
	select {
	case f.queue <- text:
		return
	default:
	}
	select { // nobody else fills the queue: there is room after this
	case <-f.queue:
		f.dropped++
	default:
	}
	f.queue <- text
}

// ring keeps the last lines.
type ring struct {
	entries [kept]entry
	next    int
}

type entry struct {
	seq  uint64 // 0: none
	text []byte
}

func (r *ring) add(seq uint64, text []byte) {
	r.entries[r.next] = entry{seq, text}
	r.next = (r.next + 1) % kept
}
