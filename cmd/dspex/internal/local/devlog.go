package local

import (
	"context"
	"log/slog"
	"slices"
)

// spoken are the records of what the user's own code prints and logs.
var spoken = []string{"worker_output", "worker_log"}

// devLog lets through what its handler does, and from info on the output of the user's own code: a developer who tries a program looks for its
// prints first.
type devLog struct{ slog.Handler }

func (h devLog) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || h.Handler.Enabled(ctx, level)
}

func (h devLog) Handle(ctx context.Context, r slog.Record) error {
	if !slices.Contains(spoken, r.Message) && !h.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

func (h devLog) WithAttrs(attrs []slog.Attr) slog.Handler { return devLog{h.Handler.WithAttrs(attrs)} }

func (h devLog) WithGroup(name string) slog.Handler { return devLog{h.Handler.WithGroup(name)} }
