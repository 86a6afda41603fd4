package pyproc

import (
	"context"
	crand "crypto/rand"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/dspex/dspex/internal/pyproc/pace"
	"github.com/dspex/dspex/internal/pyproc/proc"
)

// run lives until ctx ends and the last worker is reaped.
func (s *supervisor) run(ctx context.Context) {
	s.memory.Rules = s.pool.rules
	for s.awaitWanted(ctx) {
		end := s.live(ctx)
		if ctx.Err() == nil && !s.vacate() {
			s.rest(ctx, end)
		}
	}
	s.pool.move(s, Empty, nil)
}

// awaitWanted waits until there should be a worker here. It reports false when ctx has ended.
func (s *supervisor) awaitWanted(ctx context.Context) bool {
	for ctx.Err() == nil {
		if !s.vacate() {
			return true
		}
		select {
		case <-s.kick:
		case <-ctx.Done():
		}
	}
	return false
}

// vacate makes a supervisor without a process Empty if the plan does not need it, and reports whether that is so.
func (s *supervisor) vacate() bool {
	p := s.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.wanted {
		return false
	}
	if s.state != Empty {
		p.moveLocked(s, Empty, nil)
		s.startErr, s.quarantined = nil, false
		p.replanLocked() // the plan may wait for a supervisor
	}
	return true
}

// live starts a worker and returns when it has ended.
func (s *supervisor) live(ctx context.Context) pace.Ending {
	s.pool.move(s, Spawning, nil)
	w, err := s.spawn(ctx)
	if err != nil {
		if _, ok := errors.AsType[*StartError](err); !ok { // else it is the zygote's
			err = &StartError{Worker: s.name, Stage: Spawning, Err: err}
		}
		s.leave(ctx, err, true)
		return pace.Ending{Hopeless: isVersion(err)}
	}
	w.launch()
	cause := w.handshake(ctx)
	if cause != nil {
		return s.failStart(ctx, w, cause)
	}
	readyAt := time.Now()
	cause = w.attend(ctx)
	stage := s.stage()
	exit := w.end(stage, cause)
	if cause == nil && exit.Code == 0 && (stage == Draining || stage == Stopping) {
		s.leave(ctx, nil, false) // it sent BYE
	} else {
		s.leave(ctx, exit, false)
	}
	return pace.Ending{Ready: true, Lived: time.Since(readyAt)}
}

func (s *supervisor) failStart(ctx context.Context, w *worker, cause error) pace.Ending {
	stage := s.stage()
	kill := cause
	var own *reported
	if errors.Is(cause, errEnded) || errors.As(cause, &own) && w.ExitsWithin(termGrace) {
		kill = nil // it ends by itself, after an ERROR with status 3
	}
	exit := w.end(stage, kill)
	err := w.startError(stage, cause, exit)
	if err.Category == "" && ctx.Err() == nil && !isVersion(cause) && !errors.Is(err, errZygoteGone) {
		s.pool.zygotes.note(false)
	}
	s.leave(ctx, err, true)
	return pace.Ending{Hopeless: isVersion(cause)}
}

func (s *supervisor) spawn(ctx context.Context) (*worker, error) {
	p := s.pool
	nonce := crand.Text()
	sp := proc.Spec{Command: p.cfg.Command, Env: append(slices.Clone(p.cfg.Env), "DSPEX_NONCE="+nonce), Dir: p.cfg.Dir, Nonce: nonce}
	var channel io.Closer
	if p.cfg.Channel != nil {
		var err error
		if sp.Channel, channel, err = p.cfg.Channel(); err != nil {
			return nil, err
		}
		defer sp.Channel.Close()
	}
	c, err := p.start(ctx, sp)
	if err != nil && channel != nil {
		channel.Close()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s.starts++
	if err != nil {
		return nil, err
	}
	s.w = newWorker(s, nonce, c)
	s.w.channel = channel
	p.moveLocked(s, Handshake, nil)
	return s.w, nil
}

func (s *supervisor) stage() State {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	return s.state
}

// leave empties the supervisor after err. An end that was requested is no error of the worker.
func (s *supervisor) leave(ctx context.Context, err error, starting bool) {
	p := s.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	var cause error
	if ctx.Err() == nil && err != nil {
		cause, s.lastErr = err, err
		if starting {
			s.startErr = err
		}
	}
	p.moveLocked(s, Exited, cause)
	s.w = nil
	p.announceLocked()
	p.replanLocked()
}

// rest waits before the next start, or until there need not be one.
func (s *supervisor) rest(ctx context.Context, end pace.Ending) {
	now := time.Now()
	delay, quarantined := s.memory.After(now, end, rand.Float64())
	s.pool.rest(s, now.Add(delay), quarantined)
	timer := time.NewTimer(delay)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		case <-s.kick:
			if s.vacate() {
				return
			}
		}
	}
}

func (p *Pool) rest(s *supervisor, until time.Time, quarantined bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !quarantined {
		p.moveLocked(s, Backoff, nil)
		return
	}
	s.quarantined, s.until = true, until
	p.moveLocked(s, Quarantined, s.startErr)
	if err := p.refusalLocked(); err != nil { // the last supervisor that gave hope
		p.refuseWaitersLocked(err)
	}
}
