package batch

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

// RecordVersion is the schema of Record, Chunk and Part. A reader that meets a newer one leaves it alone.
const RecordVersion = 1

// ErrNewer reports that something of a batch was written by a newer version.
var ErrNewer = jobs.ErrNewer

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

// Tally counts outcomes.
type Tally struct {
	Succeeded int            `json:"succeeded"`
	Failed    int            `json:"failed"`
	Cancelled int            `json:"cancelled"`
	Expired   int            `json:"expired"`
	Errors    map[string]int `json:"errors,omitempty"` // by code
	Usage     Usage          `json:"usage,omitempty"`
}

// Usage is what language models counted: model -> counter -> sum.
type Usage map[string]map[string]int64

// Total is how many outcomes were counted.
func (t *Tally) Total() int { return t.Succeeded + t.Failed + t.Cancelled + t.Expired }

// mostCodes bounds the error codes that are counted apart; those of a user's own programs may be many.
const mostCodes = 64

// otherCodes counts the rest.
const otherCodes = "other"

func (t *Tally) add(e End) {
	switch e.Kind {
	case jobs.Succeeded:
		t.Succeeded++
	case jobs.Failed:
		t.Failed++
	case jobs.Cancelled:
		t.Cancelled++
	case jobs.Expired:
		t.Expired++
	}
	if e.Code != "" {
		if t.Errors == nil {
			t.Errors = map[string]int{}
		}
		if _, known := t.Errors[e.Code]; !known && len(t.Errors) >= mostCodes {
			e.Code = otherCodes
		}
		t.Errors[e.Code]++
	}
	for model, counters := range e.Usage {
		if t.Usage == nil {
			t.Usage = Usage{}
		}
		if t.Usage[model] == nil {
			t.Usage[model] = map[string]int64{}
		}
		for name, n := range counters {
			t.Usage[model][name] += n
		}
	}
}

// clone shares nothing with t: the copy is written while t goes on.
func (t *Tally) clone() Tally {
	c := *t
	c.Errors = maps.Clone(t.Errors)
	c.Usage = maps.Clone(t.Usage)
	for model, counters := range c.Usage {
		c.Usage[model] = maps.Clone(counters)
	}
	return c
}

// End is what Run keeps of an outcome. The reply itself stays with the caller, which carries the actions out, until it is saved.
type End struct {
	Index int
	Kind  jobs.Kind
	Code  string // of the error
	Usage Usage
	Bytes int  // of the reply
	Unrun bool // the batch itself ended it: there is no other reply
}
