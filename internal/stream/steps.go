package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dspex/dspex/internal/clock"
)

// ClockKey is the key of dspex_control under which the leader tells of the steps of the broker's clock, for processes that start later.
const ClockKey = "clock"

// mostSteps bounds what is believed of a value; a leader writes less.
const mostSteps = 1024

type step struct {
	From  time.Time `json:"from"`
	Found time.Time `json:"found"`
	By    int64     `json:"by_ms"`
}

// ParseSteps reads the value of ClockKey.
func ParseSteps(value []byte) ([]clock.Step, error) {
	var told struct {
		Steps []step `json:"steps"`
	}
	if err := json.Unmarshal(value, &told); err != nil {
		return nil, fmt.Errorf("steps of the broker's clock: %w", err)
	}
	if len(told.Steps) == 0 || len(told.Steps) > mostSteps {
		return nil, fmt.Errorf("steps of the broker's clock: expected 1 to %d, got %d", mostSteps, len(told.Steps))
	}
	steps := make([]clock.Step, 0, len(told.Steps))
	for _, s := range told.Steps {
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

// learn takes the steps of the broker's clock that the leader has told of. What cannot be read tells of none.
func (k *Clock) learn(ctx context.Context) error {
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
	k.Learn(steps)
	return nil
}

// TellSteps writes down the steps of the broker's clock that are known here and not there.
func (a *Access) TellSteps(ctx context.Context) error {
	e, err := a.Control.Get(ctx, ClockKey)
	if err != nil {
		return err
	}
	known, _ := ParseSteps(e.Value) // what cannot be read is written over
	all, more := clock.Merge(known, a.Clock.Steps())
	if !more {
		return nil
	}
	value, err := formatSteps(all)
	if err != nil {
		return err
	}
	_, err = a.Control.PutSync(ClockKey, value, e.Revision, 0)
	return err
}
