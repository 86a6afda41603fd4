package local

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// stopEach is the time between two lines about what the end waits for.
const stopEach = 3 * time.Second

// stopping reports what the end of `dspex dev` waits for. The second signal gives up running jobs, and the third kills.
type stopping struct {
	app     *cli.App
	grace   time.Duration
	busy    func() int // jobs that run; set when there can be some
	hurry   chan struct{}
	signals chan os.Signal
	tick    <-chan time.Time // tests have their own
}

func newStopping(a *cli.App) *stopping {
	s := &stopping{app: a, hurry: make(chan struct{}), signals: make(chan os.Signal, 2)}
	signal.Notify(s.signals, os.Interrupt, syscall.SIGTERM)
	return s
}

// watch reports until end is called, which ends it.
func (s *stopping) watch(ctx context.Context) (end func()) {
	over := make(chan struct{})
	var watches sync.WaitGroup
	watches.Go(func() {
		select {
		case <-ctx.Done():
			s.wait(over)
		case <-over:
		}
	})
	return func() {
		signal.Stop(s.signals)
		close(over)
		watches.Wait()
	}
}

func (s *stopping) wait(over <-chan struct{}) {
	if s.tick == nil {
		ticker := time.NewTicker(stopEach)
		defer ticker.Stop()
		s.tick = ticker.C
	}
	s.line("stopping%s", s.waits(fmt.Sprintf(", for at most %v; Ctrl-C again gives up what runs", s.grace)))
	for came := 0; ; {
		select {
		case <-over:
			return
		case <-s.tick:
			s.line("stopping%s", s.waits(""))
		case <-s.signals:
			if came++; came == 2 { // the first one has brought us here
				s.line("running jobs are given up; Ctrl-C again kills everything at once")
				signal.Stop(s.signals)
				close(s.hurry)
			}
		}
	}
}

// waits is for how many jobs the end waits.
func (s *stopping) waits(most string) string {
	if s.busy == nil {
		return ": running jobs may finish" + most
	}
	switch n := s.busy(); n {
	case 0:
		return ": no job runs"
	case 1:
		return ": 1 job runs and may finish" + most
	default:
		return fmt.Sprintf(": %d jobs run and may finish%s", n, most)
	}
}

func (s *stopping) line(format string, args ...any) {
	fmt.Fprintln(s.app.Err, s.app.Paint(s.app.Err, cli.Dim, fmt.Sprintf(format, args...)))
}
