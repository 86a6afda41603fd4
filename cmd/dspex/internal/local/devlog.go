package local

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/devserver"
)

// spoken are the records of what the user's own code prints and logs.
var spoken = []string{"worker_output", "worker_log"}

// devLog lets through what its handler does, and from info on what the user's own code says: who tries a program looks for its
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

// raised says what the user's code raised in a job: one text, so that those of several jobs do not mix.
func raised(r devserver.Raised) string {
	what := r.Command
	if r.Program != "" {
		what += " " + cli.Word(r.Program)
	}
	where := fmt.Sprintf("job %s, attempt %d", cli.Word(r.Job), r.Attempt)
	if r.Session != "" {
		where = "session " + cli.Word(r.Session) + ", " + where
	}
	lines := []string{fmt.Sprintf("%s raised (%s)", what, where), "  " + indented(r.Error.Message)}
	if r.Error.Traceback != "" {
		lines = append(lines, "  "+indented(r.Error.Traceback))
	}
	return strings.Join(lines, "\n") + "\n"
}

func indented(text string) string {
	return strings.ReplaceAll(strings.TrimRight(cli.Clean(text), "\n"), "\n", "\n  ")
}
