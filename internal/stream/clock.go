package stream

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/clock"
)

// Clock is the broker's time, and asks the broker for it: the leader of the stream of jobs, who stamps them.
type Clock struct {
	*clock.Clock
	js     jetstream.JetStream
	log    *slog.Logger
	asking chan struct{} // capacity 1: one asks, others wait for its answer
}

// NewClock asks the broker for its time, and takes what the leader has told of its steps.
func NewClock(ctx context.Context, js jetstream.JetStream, c *clock.Clock, log *slog.Logger) (*Clock, error) {
	k := &Clock{Clock: c, js: js, log: log, asking: make(chan struct{}, 1)}
	if err := k.ask(ctx); err != nil {
		return nil, err
	}
	return k, k.learn(ctx)
}

// clockPause is the time between questions: what a step of the broker's clock does wrong it does for no longer. Whoever is about to
// decide something by it that cannot be undone asks at once (Confirm).
const clockPause = 750 * time.Millisecond

// Follow asks again and again, until ctx ends.
func (k *Clock) Follow(ctx context.Context) {
	tick := time.NewTicker(clockPause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := k.Confirm(ctx, k.Mono()); err != nil && ctx.Err() == nil {
				k.log.Debug("clock_not_compared", "error", err)
			}
		}
	}
}

// Confirm returns when the broker was asked for its time at since or later, and has answered: from then on Age is right about
// everything that was stamped before since, however its clock has stepped, or how long this machine has slept.
func (k *Clock) Confirm(ctx context.Context, since clock.Mono) error {
	if _, sure := k.Sure(since); sure {
		return nil
	}
	select {
	case k.asking <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-k.asking }()
	if _, sure := k.Sure(since); sure { // another one's answer
		return nil
	}
	return k.ask(ctx)
}

func (k *Clock) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, AckTimeout)
	defer cancel()
	before := k.Mono()
	s, err := k.js.Stream(ctx, Jobs)
	if err != nil {
		return fmt.Errorf("the broker's clock: stream %s: %w", Jobs, err)
	}
	if step := k.Observe(s.CachedInfo().TimeStamp, before, k.Mono()); step != 0 {
		off, _ := k.Off()
		k.log.Warn("broker_clock_stepped", "by", step, "this_machine_is_ahead", off,
			"hint", "the broker's clock was set, another server of it leads, or this machine was suspended; sessions and deadlines do not follow the step")
	}
	return nil
}
