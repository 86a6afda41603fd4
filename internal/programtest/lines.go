package programtest

import (
	"context"
	"log/slog"
	"slices"
	"sync"
)

// Lines is a slog handler that keeps each record as a line of text.
type Lines struct {
	Block chan struct{} // if set, every record waits for it

	mu    sync.Mutex
	lines []string
}

// Enabled keeps all levels.
func (l *Lines) Enabled(context.Context, slog.Level) bool { return true }

// WithAttrs leaves the attributes out.
func (l *Lines) WithAttrs([]slog.Attr) slog.Handler { return l }

// WithGroup leaves the group out.
func (l *Lines) WithGroup(string) slog.Handler { return l }

// Handle keeps a record.
func (l *Lines) Handle(_ context.Context, r slog.Record) error {
	if l.Block != nil {
		<-l.Block
	}
	text := r.Message
	r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, text)
	return nil
}

// All are the lines so far.
func (l *Lines) All() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines)
}
