package daemon

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/pflag"
)

type logging struct {
	level  string
	format string
	lever  slog.LevelVar
}

var levels = map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}

func (l *logging) declare(f *pflag.FlagSet) {
	f.StringVar(&l.level, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&l.format, "log-format", "text", "text or json")
}

func (l *logging) logger(w io.Writer) (*slog.Logger, error) {
	level, ok := levels[l.level]
	if !ok {
		return nil, fmt.Errorf("--log-level must be debug, info, warn or error, got %q", l.level)
	}
	l.lever.Set(level)
	o := slog.HandlerOptions{Level: &l.lever}
	switch l.format {
	case "text":
		return slog.New(slog.NewTextHandler(w, &o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, &o)), nil
	}
	return nil, fmt.Errorf("--log-format must be text or json, got %q", l.format)
}
