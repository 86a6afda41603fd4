package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/clock"
)

// Clock is the broker's time, from queries to the leader of the stream of jobs, which stamps them.
type Clock struct {
	*clock.Clock
	js       jetstream.JetStream
	log      *slog.Logger
	requests chan struct{} // capacity 1: one sends a request, others wait for its answer
}

// NewClock queries the broker for its time, and takes what the leader has recorded of its steps.
func NewClock(ctx context.Context, js jetstream.JetStream, c *clock.Clock, log *slog.Logger) (*Clock, error) {
	k := &Clock{Clock: c, js: js, log: log, requests: make(chan struct{}, 1)}
	if err := k.request(ctx); err != nil {
		return nil, err
	}
	return k, k.readSteps(ctx)
}

// clockPause is the time between questions: what a step of the broker's clock does wrong it does for no longer. Whoever is about to
// decide something by it that cannot be undone reads it at once (Confirm).
const clockPause = 750 * time.Millisecond

// Follow queries again and again, until ctx ends.
func (k *Clock) Follow(ctx context.Context) {
	for range clock.Every(ctx, clockPause) {
		if err := k.Confirm(ctx, k.Mono()); err != nil && ctx.Err() == nil {
			k.log.Debug("clock_not_compared", "error", err)
		}
	}
}

// Confirm returns when a request for the broker's time that was sent at since or later has an answer. From then on Age is right about
// everything that was stamped before since, however the broker's clock has stepped and however long this machine has slept.
func (k *Clock) Confirm(ctx context.Context, since clock.Mono) error {
	if _, sure := k.Sure(since); sure {
		return nil
	}
	select {
	case k.requests <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-k.requests }()
	if _, sure := k.Sure(since); sure { // another one's answer
		return nil
	}
	return k.request(ctx)
}

func (k *Clock) request(ctx context.Context) error {
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

// ClockKey is the key of dspex_control under which the leader records the steps of the broker's clock, for processes that start later.
const ClockKey = "clock"

// mostSteps bounds what is accepted of a value; a leader writes less.
const mostSteps = 1024

type step struct {
	From  time.Time `json:"from"`
	Found time.Time `json:"found"`
	By    int64     `json:"by_ms"`
}

// ParseSteps reads the value of ClockKey.
func ParseSteps(value []byte) ([]clock.Step, error) {
	var recorded struct {
		Steps []step `json:"steps"`
	}
	if err := json.Unmarshal(value, &recorded); err != nil {
		return nil, fmt.Errorf("steps of the broker's clock: %w", err)
	}
	if len(recorded.Steps) == 0 || len(recorded.Steps) > mostSteps {
		return nil, fmt.Errorf("the record of the broker's clock must have 1 to %d steps, got %d", mostSteps, len(recorded.Steps))
	}
	steps := make([]clock.Step, 0, len(recorded.Steps))
	for _, s := range recorded.Steps {
		const most = int64(1<<63-1) / int64(time.Millisecond) / 2
		if s.Found.Before(s.From) || s.By > most || s.By < -most {
			return nil, errors.New("steps of the broker's clock: one of them is none")
		}
		steps = append(steps, clock.Step{From: s.From, Found: s.Found, By: time.Duration(s.By) * time.Millisecond})
	}
	return steps, nil
}

func formatSteps(steps []clock.Step) ([]byte, error) {
	list := make([]step, 0, len(steps))
	for _, s := range steps {
		list = append(list, step{s.From.UTC(), s.Found.UTC(), s.By.Milliseconds()})
	}
	return json.Marshal(map[string]any{"steps": list})
}

// readSteps takes the steps of the broker's clock that the leader has recorded. What cannot be read has none.
func (k *Clock) readSteps(ctx context.Context) error {
	m, err := GetLast(ctx, k.js.Conn(), ControlStream, "$KV."+Control+"."+ClockKey)
	if errors.Is(err, ErrNotFound) || err == nil && m.Deleted() {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the broker's clock: %w", err)
	}
	steps, err := ParseSteps(m.Data)
	if err != nil {
		k.log.Warn("clock_steps_unreadable", "error", err)
		return nil
	}
	k.AddSteps(steps)
	return nil
}
