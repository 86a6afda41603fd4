package pyproc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/dspex/dspex/internal/pyproc/proc"
)

// Ready waits until a worker is ready. It fails with the errors of the starts once every supervisor has failed to start one,
// with ErrStopped if the pool stops and with ctx's error.
func (p *Pool) Ready(ctx context.Context) error {
	for {
		done, changed, err := p.readiness()
		if done {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("pyproc: no worker is ready: %w", ctx.Err())
		}
	}
}

func (p *Pool) readiness() (done bool, changed <-chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopping {
		return true, nil, ErrStopped
	}
	var failed []error
	wanted := 0
	for _, s := range p.supervisors {
		if !s.wanted {
			continue
		}
		wanted++
		if s.w != nil && s.w.open {
			return true, nil, nil
		}
		if s.startErr != nil {
			failed = append(failed, s.startErr)
		}
	}
	if len(failed) > 0 && len(failed) == wanted {
		return true, nil, errors.Join(failed...)
	}
	return false, p.changed, nil
}

func (p *Pool) announceLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// move changes the state of a supervisor.
func (p *Pool) move(s *supervisor, to State, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moveLocked(s, to, err)
}

func (p *Pool) moveLocked(s *supervisor, to State, err error) {
	from := s.state
	if from == to {
		return
	}
	p.edges[from][to]++
	if from == Idle && to == Busy || from == Busy && to == Idle { // every call's: legal, counted, and not reported
		s.state = to
		return
	}
	if !from.leadsTo(to) {
		p.illegal++
		err = errors.Join(err, fmt.Errorf("pyproc: bug: no edge leads from %s to %s", from, to))
	}
	s.state = to
	e := Event{At: time.Now(), Worker: s.name, From: from, To: to, Err: err}
	if s.w != nil {
		e.ID, e.PID = s.w.id, s.w.Child.PID
	}
	p.events = append(p.events, e)
	proc.Poke(p.eventKick)
}

// reportEvents logs and reports the edges until done is closed and all are reported.
func (p *Pool) reportEvents(done <-chan struct{}) {
	for {
		last := false
		select {
		case <-p.eventKick:
		case <-done:
			last = true
		}
		p.mu.Lock()
		events := p.events
		p.events = nil
		p.mu.Unlock()
		for _, e := range events {
			p.logEvent(e)
			p.cfg.OnEvent(e)
		}
		if last {
			return
		}
	}
}

func (p *Pool) logEvent(e Event) {
	level := slog.LevelDebug
	attrs := []any{"worker", e.Worker, "pid", e.PID, "from", e.From.String(), "to", e.To.String()}
	if e.Err != nil {
		level = slog.LevelWarn
		attrs = append(attrs, "error", e.Err.Error())
	}
	p.cfg.Log.Log(context.Background(), level, "worker_state", attrs...)
}
