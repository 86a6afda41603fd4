package host

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// A host leaves in three steps: it takes nothing new, its running jobs end (within the grace), and it gives each partition
// back as soon as nothing of it runs any more. The leader then assigns it to another host.

// Hurry ends the grace of a host that stops: running jobs are given up, and their next attempts run elsewhere.
func (h *Host) Hurry() { h.hurried.Do(func() { close(h.hurry) }) }

// finish waits until all that was started has ended: for the grace, or until somebody hurries.
func (h *Host) finish(done <-chan struct{}, stop context.CancelCauseFunc) {
	h.stopping.Store(true)
	h.beat(false)
	timer := time.NewTimer(h.cfg.Grace)
	defer timer.Stop()
	select {
	case <-done:
		return
	case <-timer.C:
	case <-h.hurry:
	}
	h.log.Warn("running_jobs_given_up", "grace", h.cfg.Grace)
	stop(errors.New("the host stops"))
	<-done
}

// giveBack releases a partition that still names this host. It reports whether it did.
func (h *Host) giveBack(ctx context.Context, n int, epoch uint64) bool {
	if epoch == 0 || h.assigned.get(n).owner.Host != h.cfg.Name {
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stream.AckTimeout)
	defer cancel()
	err := h.claims.Release(ctx, stream.Consumer{Key: jobs.AssignmentKey(n), Name: jobs.ConsumerName(n, epoch), Epoch: epoch})
	switch {
	case err == nil:
		h.log.Info("partition_released", "partition", n, "epoch", epoch)
	case !errors.Is(err, stream.ErrNotMine):
		h.log.Warn("partition_not_released", "partition", n, "epoch", epoch, "error", err)
	}
	return err == nil
}

// onRelease hears the leader ask for partitions. The assignments are the answer.
func (h *Host) onRelease(m *nats.Msg) {
	var ask jobs.Release
	if err := json.Unmarshal(m.Data, &ask); err != nil {
		h.log.Warn("release_unreadable", "error", err)
		return
	}
	for n, epoch := range ask.Partitions {
		if h.assigned.get(n).epoch > epoch {
			continue // taken anew since
		}
		if t, ok := h.tenures.Load(n); ok {
			if !ask.Patient || !h.runsBeyond(n, h.clock.Mono()+h.cfg.Grace) {
				t.(*tenure).leave()
			}
		} else if h.stopping.Load() { // assigned when it was too late to be taken
			h.giveBack(h.work, n, epoch)
		}
	}
}

// runsBeyond reports whether a running attempt of the partition may last longer than until then.
func (h *Host) runsBeyond(n int, then clock.Mono) bool {
	held, ok := h.parts.Load(n)
	if !ok {
		return false
	}
	p := held.(*partition)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sessions {
		if s.runsBeyond(then) {
			return true
		}
	}
	return false
}

// followDrain keeps up with what the operator wants of this host: one that drains pulls no anonymous jobs, and the leader
// takes its partitions away.
func (h *Host) followDrain(ctx context.Context) {
	stream.Follow(ctx, h.js, stream.Control, jobs.DrainKey(h.cfg.Name), h.log, func(_ string, value []byte) {
		drain := jobs.IsDrain(value)
		if h.draining.Swap(drain) != drain {
			h.log.Info("drain", "on", drain)
		}
		h.beat(false)
	})
}
