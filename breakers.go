package dspex

import (
	"context"
	"encoding/json"
	"time"
)

const doorBreakers = "dspex.rpc.breakers."

// BreakerState is what a circuit breaker does with jobs.
type BreakerState string

// The states of circuit breakers.
const (
	BreakerClosed   BreakerState = "closed"    // it lets all through
	BreakerOpen     BreakerState = "open"      // calls fail at once, submitted jobs wait
	BreakerHalfOpen BreakerState = "half_open" // it lets a bounded trial through
)

// BreakerFailure is what counted last on a circuit breaker.
type BreakerFailure struct {
	What string    `json:"what"` // category/code
	At   time.Time `json:"at"`
}

// BreakerConfig are the thresholds of a circuit breaker.
type BreakerConfig struct {
	FailureThreshold int   `json:"failure_threshold"`
	SuccessThreshold int   `json:"success_threshold"`
	Timeout          int64 `json:"timeout"` // milliseconds
}

// Breaker is how a circuit breaker stands, on all hosts together.
type Breaker struct {
	Name            string          `json:"name"`
	State           BreakerState    `json:"state"`
	FailureCount    int             `json:"failure_count"`   // failures in a row; of an open one those that opened it
	SuccessCount    int             `json:"success_count"`   // successes in a row since it is half-open
	HalfOpenCount   int             `json:"half_open_count"` // trials under way
	LastFailure     *BreakerFailure `json:"last_failure"`    // nil: none was seen
	LastStateChange *time.Time      `json:"last_state_change"`
	TimeUntilRetry  int64           `json:"time_until_retry"` // milliseconds until an open one lets a trial through
	Config          BreakerConfig   `json:"config"`
	Raw             json.RawMessage `json:"-"` // all that was said
}

// Breakers lists the circuit breakers of the workers of each host, of their starts, and of the language models that were used.
func (c *Client) Breakers(ctx context.Context) ([]Breaker, error) {
	reply, err := c.admin(ctx, doorBreakers+"list", struct{}{})
	if err != nil {
		return nil, err
	}
	var w struct{ Breakers []json.RawMessage }
	if err := reply.Decode(&w); err != nil {
		return nil, badReply("the list of circuit breakers is not the expected JSON: %v", err)
	}
	list := make([]Breaker, len(w.Breakers))
	for i, raw := range w.Breakers {
		if list[i], err = readBreaker(raw); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// ResetBreaker closes a circuit breaker on all hosts and forgets its failures.
func (c *Client) ResetBreaker(ctx context.Context, name string) (Breaker, error) {
	reply, err := c.admin(ctx, doorBreakers+"reset", map[string]any{"name": name})
	if err != nil {
		return Breaker{}, err
	}
	return readBreaker(reply.Result)
}

func readBreaker(raw json.RawMessage) (Breaker, error) {
	b := Breaker{Raw: raw}
	if err := json.Unmarshal(raw, &b); err != nil || b.Name == "" {
		return Breaker{}, badReply("the answer about a circuit breaker is not the expected JSON")
	}
	return b, nil
}
