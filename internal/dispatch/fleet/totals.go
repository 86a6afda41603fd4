package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"sync"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/stream"
)

// Totals is what all hosts have counted, those that have gone or restarted too. Every dispatcher receives every heartbeat; the leader writes
// down what it has, for dispatchers that start later.
type Totals struct {
	mu sync.Mutex
	of control.Totals
}

func (t *Totals) note(b control.Heartbeat) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.of.Note(b)
}

// Adopt takes what a leader has written; what is no such value is left out.
func (t *Totals) Adopt(value []byte) {
	written, err := control.ParseTotals(value)
	if err != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.of.Merge(written)
}

// sum is what has been counted, with what the hosts have just reported.
func (t *Totals) sum(beats []control.Heartbeat) control.Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range beats {
		t.of.Note(b)
	}
	return t.of.Sum()
}

// Keep is a step of the leader's task: it writes what is not written yet.
func (t *Totals) Keep(ctx context.Context, bucket *stream.Bucket, live []control.Heartbeat) error {
	ctx, cancel := context.WithTimeout(ctx, stream.AckTimeout)
	defer cancel()
	e, err := bucket.Get(ctx, control.TotalsKey)
	if err != nil {
		return err
	}
	written, err := control.ParseTotals(e.Value)
	if err != nil { // none, or no value of ours: it is written over
		written = control.Totals{}
	}
	value, more := t.toWrite(written, live)
	if !more {
		return nil
	}
	if _, err = bucket.PutSync(control.TotalsKey, value, e.Revision, 0); errors.Is(err, stream.ErrWrongRevision) {
		return nil // another one leads: it has what is known here
	}
	return err
}

// toWrite is what is to stand there instead of what is written; more is false if nothing is new.
func (t *Totals) toWrite(written control.Totals, live []control.Heartbeat) (value []byte, more bool) {
	alive := map[string]bool{}
	for _, b := range live {
		alive[b.Incarnation] = true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.of.Merge(written) {
		return nil, false
	}
	t.of.Fold(func(incarnation string) bool { return alive[incarnation] })
	value, err := json.Marshal(t.of)
	if err != nil {
		panic(err) // texts and numbers always marshal
	}
	return value, true
}
