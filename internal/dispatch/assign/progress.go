package assign

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// Times of the check that the leader does its work.
const (
	stalledAfter = 3 * reconcile   // a leader looks at all assignments every reconcile
	progressWait = 2 * time.Second // for its answer
)

// progress is how the leader's planning gets on. It is kept by the planner and read beside it, so that a planner that hangs is seen.
type progress struct {
	mu   sync.Mutex
	done time.Time // the last plan that was carried out, or the begin of leading; zero while another one leads
	last error     // of the last plan
}

func (p *progress) begin() { p.set(time.Now(), nil) }
func (p *progress) end()   { p.set(time.Time{}, nil) }

func (p *progress) set(done time.Time, last error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done, p.last = done, last
}

// planned takes note of a plan.
func (p *progress) planned(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last = err; err == nil {
		p.done = time.Now()
	}
}

// leading is what the leader reports of its planning, on dspex.rpc.leader (contract/admin.md).
type leading struct {
	Dispatcher string `json:"dispatcher"`
	IdleMillis int64  `json:"idle_ms"` // since it carried out a plan
	Error      string `json:"error,omitempty"`
}

// now is nil while another one leads.
func (p *progress) now(dispatcher string) *leading {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done.IsZero() {
		return nil
	}
	l := &leading{Dispatcher: dispatcher, IdleMillis: time.Since(p.done).Milliseconds()}
	if p.last != nil {
		l.Error = p.last.Error()
	}
	return l
}

// answer serves the question until stop is called. Who leads serves it alone.
func (p *Planner) answer() (stop func(), err error) {
	return p.broker.Serve(jobs.SubjectLeader, func(_ []byte, reply func([]byte)) {
		if body, err := json.Marshal(p.progress.now(p.name)); err == nil {
			reply(body)
		}
	})
}

// Reasons reports that whatever leads assigns nothing.
func (p *Planner) Reasons(ctx context.Context) []string {
	l := p.progress.now(p.name)
	if l == nil {
		bounded, cancel := context.WithTimeout(ctx, progressWait)
		defer cancel()
		body, err := p.broker.Request(bounded, jobs.SubjectLeader, nil)
		switch {
		case errors.Is(err, stream.ErrNoResponders): // an election, or the leader is of an earlier release
			return nil
		case err != nil:
			return []string{"the leading dispatcher does not answer"}
		case json.Unmarshal(body, &l) != nil || l == nil:
			return nil // it leads no more
		}
	}
	if idle := time.Duration(l.IdleMillis) * time.Millisecond; idle > stalledAfter {
		reason := fmt.Sprintf("the dispatcher %s leads but assigns nothing: its last plan was carried out %v ago", jobs.Clip(l.Dispatcher), idle.Round(time.Second))
		if l.Error != "" {
			reason += ", the last one failed: " + l.Error
		}
		return []string{reason}
	}
	return nil
}

// Idle is for how long this dispatcher has led without carrying out a plan; 0 while another one leads.
func (p *Planner) Idle() time.Duration {
	if l := p.progress.now(p.name); l != nil {
		return time.Duration(l.IdleMillis) * time.Millisecond
	}
	return 0
}
