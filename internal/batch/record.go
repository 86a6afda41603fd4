package batch

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Phase is where a batch stands.
type Phase string

// The phases, in their order. A batch may be cancelled, so that it goes from running to cancelling; it is removed from uploading or ended.
const (
	Uploading  Phase = "uploading" // jobs may be added; none has begun
	Running    Phase = "running"
	Cancelling Phase = "cancelling" // what has not begun does not begin
	Ended      Phase = "ended"      // every job has its outcome
	Removing   Phase = "removing"   // its jobs and outcomes are being removed, its record last
)

// Record is the durable state of a batch. Every change is a compare-and-set.
type Record struct {
	Schema    int       `json:"schema"`
	Batch     string    `json:"batch"`
	Tenant    string    `json:"tenant"`
	Key       string    `json:"key"` // of this life of the batch's id: in the names of all that belongs to it
	Phase     Phase     `json:"phase"`
	Created   time.Time `json:"created_at"`
	Submitted time.Time `json:"submitted_at,omitzero"`
	Finished  time.Time `json:"ended_at,omitzero"`
	Expires   time.Time `json:"expires_at,omitzero"` // when it is removed

	Jobs        int           `json:"jobs"`   // 0 while they are uploaded
	Digest      string        `json:"digest"` // of all jobs, in their order
	Concurrency int           `json:"concurrency"`
	Keep        time.Duration `json:"keep"` // after its end
	ReplyTo     string        `json:"reply_to,omitempty"`
	Trace       string        `json:"traceparent,omitempty"` // of the request that submitted it

	Opened    int   `json:"opened"`  // no job from this one on has ever been published
	Stored    int   `json:"settled"` // the outcomes of all jobs before this one are stored with the batch
	Tally     Tally `json:"tally"`   // of the settled ones
	Seen      Tally `json:"seen"`    // of all whose outcomes were seen
	Announced bool  `json:"announced,omitempty"`
	Lost      bool  `json:"lost,omitempty"` // the store lost jobs of it: those from Settled on have no outcome but that
}

// Append writes the stored form.
func (r *Record) Append() ([]byte, error) {
	stored := *r
	stored.Schema = RecordVersion
	b, err := json.Marshal(&stored)
	if err != nil {
		return nil, fmt.Errorf("batch record: %w", err)
	}
	return b, nil
}

// ParseRecord reads the stored form; ErrNewer when a newer version wrote it.
func ParseRecord(b []byte) (*Record, error) {
	r := &Record{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("batch record: %w", err)
	}
	switch {
	case r.Schema > RecordVersion:
		return nil, fmt.Errorf("batch record: %w", ErrNewer)
	case r.Schema < 1 || r.Key == "" || r.Stored > r.Opened:
		return nil, errors.New("batch record: damaged")
	}
	return r, nil
}

// Waits reports whether the leader has something to do for the batch.
func (r *Record) Waits() bool {
	return r.Phase == Running || r.Phase == Cancelling || r.Phase == Ended && !r.Announced
}
