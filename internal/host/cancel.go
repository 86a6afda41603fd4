package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/jobs"
)

// cancelling bounds the cancellations under way at once, and how long one may wait for its session's loop.
const (
	cancelling     = 64
	cancelPatience = 3 * time.Second
)

// listenCancel serves dspex.ctl.<host>.cancel until the returned function is called, which waits for what is under way.
func (h *Host) listenCancel(ctx context.Context) (stop func(), err error) {
	slots := make(chan struct{}, cancelling)
	var wg sync.WaitGroup
	sub, err := h.nc.Subscribe(jobs.SubjectControl+h.cfg.Name+".cancel", func(m *nats.Msg) {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			var c jobs.Cancel
			verdict := jobs.CancelUnknown
			if json.Unmarshal(m.Data, &c) == nil {
				verdict = h.cancelJob(ctx, c)
			}
			_ = m.Respond([]byte(verdict)) // the asker may be gone
		})
	})
	if err != nil {
		return nil, fmt.Errorf("subscribe to cancellations: %w", err)
	}
	return func() { _ = sub.Unsubscribe(); wg.Wait() }, nil
}

// cancelJob ends the earliest outstanding job of an id.
func (h *Host) cancelJob(ctx context.Context, c jobs.Cancel) jobs.CancelVerdict {
	if c.Session == "" {
		return h.cancelAnonymous(anonymousJob{c.Ref().Tenant, c.Job})
	}
	s := h.session(c.Ref())
	if s == nil {
		return jobs.CancelUnknown
	}
	waiting, found := s.cancelRunning(c.Job)
	if waiting == nil {
		if found {
			return jobs.CancelUnderway
		}
		return jobs.CancelUnknown
	}
	return s.askEnd(ctx, waiting)
}

// session is one that this host has in memory, nil if there is none.
func (h *Host) session(id jobs.SessionRef) (found *session) {
	h.parts.Range(func(_, v any) bool {
		p := v.(*partition)
		p.mu.Lock()
		defer p.mu.Unlock()
		found = p.sessions[id]
		return found == nil
	})
	return found
}

// cancelRunning cancels the job if it is the running one; else it returns the waiting job.
func (s *session) cancelRunning(id string) (waiting *job, found bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j := s.running; j != nil && j.env.Job == id {
		j.mu.Lock()
		j.cancelled = true
		j.mu.Unlock()
		if s.cancel != nil {
			s.cancel(errCancelled)
		}
		return nil, true
	}
	for _, j := range s.queue {
		if j.env.Job == id && !j.answered {
			return j, true
		}
	}
	return nil, false
}

// askEnd has the session's loop end a waiting job.
func (s *session) askEnd(ctx context.Context, j *job) jobs.CancelVerdict {
	ctx, cancel := context.WithTimeout(ctx, cancelPatience)
	defer cancel()
	s.p.h.turns.take(func(w *session) bool { return w == s })
	s.mu.Lock()
	asks, quit := s.asks, s.quit
	s.mu.Unlock()
	if quit == nil {
		return jobs.CancelUnknown // it has ended meanwhile
	}
	a := ask{job: j, kind: jobs.Cancelled, done: make(chan error, 1)}
	select {
	case asks <- a:
	case <-quit:
		return jobs.CancelUnknown
	case <-ctx.Done():
		return jobs.CancelBusy
	}
	select {
	case err := <-a.done:
		if err == nil {
			return jobs.CancelUnderway
		}
		if errors.Is(err, errTooLate) { // it runs, or has its outcome
			_, _ = s.cancelRunning(j.env.Job)
			return jobs.CancelUnderway
		}
		return jobs.CancelBusy
	case <-ctx.Done():
		return jobs.CancelBusy
	}
}

// anonymousRuns are the anonymous jobs that this host runs now.
type anonymousRuns struct {
	mu     sync.Mutex
	cancel map[anonymousJob]context.CancelCauseFunc
}

// anonymousJob names a job without session.
type anonymousJob struct{ tenant, id string }

func (a *anonymousRuns) enter(job anonymousJob, cancel context.CancelCauseFunc) (leave func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cancel == nil {
		a.cancel = map[anonymousJob]context.CancelCauseFunc{}
	}
	a.cancel[job] = cancel
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.cancel, job)
	}
}

func (h *Host) cancelAnonymous(job anonymousJob) jobs.CancelVerdict {
	h.runs.mu.Lock()
	defer h.runs.mu.Unlock()
	cancel, ok := h.runs.cancel[job]
	if !ok {
		return jobs.CancelUnknown
	}
	cancel(errCancelled)
	return jobs.CancelUnderway
}
