package host

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/jobs"
)

// cancelling bounds the cancellations under way at once, and how long one may wait for its outcome.
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
	d := h.session(c.Ref())
	if c.Session == "" {
		d = h.runs.get(anonymousJob{c.Ref().Tenant, c.Job})
	}
	if d == nil {
		return jobs.CancelUnknown
	}
	return d.cancel(ctx, c.Job)
}

// session is one that this host has in memory, nil if there is none.
func (h *Host) session(id jobs.SessionRef) (found *driver) {
	h.parts.Range(func(_, v any) bool {
		p := v.(*partition)
		p.mu.Lock()
		defer p.mu.Unlock()
		found = p.sessions[id]
		return found == nil
	})
	return found
}
