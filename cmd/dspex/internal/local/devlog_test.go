package local

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestDevShowsWhatUserCodePrintsAndNothingElseBelowItsLevel(t *testing.T) {
	var out bytes.Buffer
	var level slog.LevelVar
	level.Set(slog.LevelWarn)
	log := slog.New(devLog{slog.NewTextHandler(&out, &slog.HandlerOptions{Level: &level})}).With("worker", "dev/1")
	log.Info("worker_output", "text", "hello from print")
	log.Info("worker_log", "text", "hello from logging")
	log.Info("worker_started")
	log.Debug("worker_output", "text", "debug")
	log.Warn("worker_died")
	got := out.String()
	for _, want := range []string{"hello from print", "hello from logging", "worker_died", "worker=dev/1"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in %q", want, got)
		}
	}
	if strings.Contains(got, "worker_started") || strings.Contains(got, "debug") {
		t.Errorf("said too much: %q", got)
	}
}
