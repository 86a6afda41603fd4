package local

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// lines are those that were written.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
	came chan struct{}
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.text.Write(b)
	l.came <- struct{}{}
	return n, err
}

func (l *lines) has(part string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), part)
}

// TestTheEndOfDevNamesWhatItWaitsForAndTheSecondSignalGivesItUp.
func TestTheEndOfDevNamesWhatItWaitsForAndTheSecondSignalGivesItUp(t *testing.T) {
	out, tick := &lines{came: make(chan struct{}, 8)}, make(chan time.Time)
	s := &stopping{app: &cli.App{Err: out, Env: func(string) string { return "" }}, grace: 30 * time.Second, busy: func() int { return 2 },
		hurry: make(chan struct{}), signals: make(chan os.Signal, 2), tick: tick}
	ctx, stop := context.WithCancel(t.Context())
	end := s.watch(ctx)
	s.signals <- os.Interrupt
	stop()
	<-out.came
	if !out.has("stopping: 2 jobs run and may finish, for at most 30s; Ctrl-C again gives up what runs") {
		t.Error(out.text.String())
	}
	tick <- time.Time{}
	<-out.came
	select {
	case <-s.hurry:
		t.Error("the first signal gives up jobs")
	default:
	}
	s.signals <- os.Interrupt
	<-s.hurry
	end()
	if !out.has("running jobs are given up") {
		t.Error(out.text.String())
	}
}

func TestTheEndOfDevWithoutJobsIsNoWait(t *testing.T) {
	for n, want := range map[int]string{0: ": no job runs", 1: ": 1 job runs and may finish", 3: ": 3 jobs run and may finish"} {
		s := &stopping{busy: func() int { return n }}
		if got := s.waits(""); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}
