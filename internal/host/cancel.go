package host

import (
	"context"
	"encoding/json"
	"sync"

	"github.com/dspex/dspex/internal/jobs"
)

// mostCancellations bounds the cancellations under way at once.
const mostCancellations = 64

// serveCancel serves dspex.ctl.<host>.cancel until the returned function is called, which waits for what is under way.
func (r *parts) serveCancel(ctx context.Context, host string) (stop func(), err error) {
	slots := make(chan struct{}, mostCancellations)
	var wg sync.WaitGroup
	end, err := r.on.Serve(jobs.SubjectControl+host+".cancel", func(data []byte, reply func([]byte)) {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			var c jobs.Cancel
			verdict := jobs.CancelUnknown
			if json.Unmarshal(data, &c) == nil {
				verdict = r.cancelJob(ctx, c)
			}
			reply([]byte(verdict))
		})
	})
	if err != nil {
		return nil, err
	}
	return func() { end(); wg.Wait() }, nil
}

// cancelJob ends the earliest outstanding job of an id.
func (r *parts) cancelJob(ctx context.Context, c jobs.Cancel) jobs.CancelVerdict {
	ref := c.Ref()
	if c.Session == "" {
		return r.anonymous.Cancel(ctx, ref.Tenant, c.Job)
	}
	return r.sessions.Cancel(ctx, ref, c.Job)
}
