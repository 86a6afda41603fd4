package mock

import (
	"time"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/host/workers"
	"github.com/dspex/dspex/internal/wire"
)

// WithFaults is the pool with the scenario's errors and latencies in front of its workers.
func WithFaults(p workers.Pool, s *Scenario) workers.Pool {
	if s == nil {
		return p
	}
	return faulty{p, s}
}

type faulty struct {
	workers.Pool
	scenario *Scenario
}

func (f faulty) Checkout(want workers.Want, wait workers.Wait) (workers.Slot, error) {
	slot, err := f.Pool.Checkout(want, wait)
	if err != nil {
		return nil, err
	}
	return faultySlot{slot, f.scenario}, nil
}

type faultySlot struct {
	workers.Slot
	scenario *Scenario
}

// Call applies a fault of the scenario first. What it takes is spent in the slot, as in a worker.
func (f faultySlot) Call(body []byte, partial func([]byte), wait workers.Wait) (frame.Frame, error) {
	if c, err := frame.ParseCall(body); err == nil {
		var args map[string]any
		if wire.Decode(c.Args, &args) == nil {
			if r := f.scenario.fault(c.Command, inputsOf(c.Command, args)); r != nil {
				if err := delay(time.Duration(r.Latency)*time.Millisecond, wait); err != nil {
					return frame.Frame{}, err
				}
				if r.Error != nil {
					return r.Error.frame(), nil
				}
			}
		}
	}
	return f.Slot.Call(body, partial, wait)
}

func delay(d time.Duration, wait workers.Wait) error {
	if d <= 0 {
		return nil
	}
	over := make(chan struct{})
	timer := time.AfterFunc(d, func() { close(over) })
	defer timer.Stop()
	return wait(over)
}
