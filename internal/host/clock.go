package host

import (
	"context"
	"time"

	"github.com/dspex/dspex/internal/stream"
)

// now is the broker's time: deadlines and not_before are judged by it. Waits are measured by the monotonic clock.
func (h *Host) now() time.Time { return time.Now().Add(time.Duration(h.skew.Load())) }

// clockPause is the time between comparisons with the broker's clock.
const clockPause = time.Minute

func (h *Host) setClock(ctx context.Context) error {
	skew, err := stream.BrokerClock(ctx, h.js)
	if err != nil {
		return err
	}
	h.skew.Store(int64(skew))
	return nil
}

// followClock keeps up with clocks that drift or jump.
func (h *Host) followClock(ctx context.Context) {
	tick := time.NewTicker(clockPause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			bounded, cancel := context.WithTimeout(ctx, stream.AckTimeout)
			if err := h.setClock(bounded); err != nil && ctx.Err() == nil {
				h.log.Warn("clock_not_compared", "error", err)
			}
			cancel()
		}
	}
}
