package dspex

import (
	"context"
	"encoding/json"
	"iter"
	"time"
)

const doorDead = "dspex.rpc.dlq."

// DeadLetter is a job that failed for good although it was worth retrying. It is kept for 30 days.
type DeadLetter struct {
	Sequence   uint64        `json:"sequence"` // its name
	Job        string        `json:"job"`
	Session    string        `json:"session"` // "" for an anonymous job
	Lane       string        `json:"lane"`    // of an anonymous job
	Mode       string        `json:"mode"`    // call or queue
	Command    string        `json:"command"` // "" if the request could not be read
	Attempts   int           `json:"attempts"`
	Category   ErrorCategory `json:"error_category"`
	Code       string        `json:"code"`
	Message    string        `json:"message"`
	BuriedAt   time.Time     `json:"buried_at"`
	AcceptedAt time.Time     `json:"accepted_at"`
	Bytes      int           `json:"bytes"`    // of the request
	Replayed   *ReplayedAs   `json:"replayed"` // nil if it was not

	Raw json.RawMessage `json:"-"` // all that was said
}

// ReplayedAs is the job that a dead letter was replayed as.
type ReplayedAs struct {
	Job string    `json:"job"`
	At  time.Time `json:"at"`
}

// DeadLetterDetails is all about one dead letter.
type DeadLetterDetails struct {
	DeadLetter
	Request      json.RawMessage  `json:"request"`       // nil if it cannot be read
	RequestBytes []byte           `json:"request_bytes"` // then
	Failures     []AttemptFailure `json:"failures"`      // the earliest may be missing
	Err          *Error           `json:"-"`             // the last one, as in the job's reply
}

// AttemptFailure is one failed attempt of a job.
type AttemptFailure struct {
	Attempt    int           `json:"attempt"`
	Category   ErrorCategory `json:"error_category"`
	Code       string        `json:"code"`
	Message    string        `json:"message"`
	Worker     string        `json:"worker"`
	PythonType string        `json:"python_type"`
	At         time.Time     `json:"at"`
}

// DeadLetterFilter chooses dead letters. Its zero value lists all; to replay or to purge all, All must say so.
type DeadLetterFilter struct {
	Session   string
	Anonymous bool          // those without session
	Category  ErrorCategory // of the last error
	Code      string        // of the last error
	OlderThan time.Duration // since it was buried
	NewerThan time.Duration
	Replayed  *bool // whether it was
	All       bool  // to replay or to purge without any of the above
	Limit     int   // of letters, 0: no limit
}

func (f DeadLetterFilter) ask() map[string]any {
	ask := map[string]any{}
	for key, text := range map[string]string{"session": f.Session, "error_category": string(f.Category), "code": f.Code} {
		if text != "" {
			ask[key] = text
		}
	}
	for key, d := range map[string]time.Duration{"older_than_ms": f.OlderThan, "newer_than_ms": f.NewerThan} {
		if d > 0 {
			ask[key] = milliseconds(d)
		}
	}
	if f.Anonymous {
		ask["anonymous"] = true
	}
	if f.Replayed != nil {
		ask["replayed"] = *f.Replayed
	}
	return ask
}

// deadAnswer is a page of what was done, or found.
type deadAnswer struct {
	Letters  []json.RawMessage
	Replayed []json.RawMessage
	Purged   int
	Cursor   string
}

// mostDeadPage bounds what one request does: each letter of a replay or a purge costs the broker a few writes.
const mostDeadPage = 100

// deadPages asks page by page until each has enough or the limit is reached.
func (c *Client) deadPages(ctx context.Context, verb string, ask map[string]any, limit int, each func(deadAnswer) (count int, more bool)) error {
	for left := limit; ; {
		ask["limit"] = mostDeadPage
		if left > 0 {
			ask["limit"] = min(left, mostDeadPage)
		}
		reply, err := c.admin(ctx, doorDead+verb, ask)
		if err != nil {
			return err
		}
		var page deadAnswer
		if err := reply.Decode(&page); err != nil {
			return badReply("the answer about dead letters is not the expected JSON: %v", err)
		}
		count, more := each(page)
		if left -= count; !more || page.Cursor == "" || limit > 0 && left <= 0 {
			return nil
		}
		ask["cursor"] = page.Cursor
	}
}

// DeadLetters lists dead letters, the oldest first. It reads page by page while the loop goes on.
func (c *Client) DeadLetters(ctx context.Context, f DeadLetterFilter) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		over := false
		err := c.deadPages(ctx, "list", f.ask(), f.Limit, func(page deadAnswer) (int, bool) {
			for _, raw := range page.Letters {
				l := DeadLetter{Raw: raw}
				err := json.Unmarshal(raw, &l)
				if err != nil {
					err = badReply("a dead letter is not the expected JSON: %v", err)
				}
				if !yield(l, err) || err != nil {
					over = true
					return 0, false
				}
			}
			return len(page.Letters), true
		})
		if err != nil && !over {
			yield(DeadLetter{}, err)
		}
	}
}

// DeadLetter tells all about one dead letter. One that is not there is an error of category ErrSession, code
// dead_letter_unknown.
func (c *Client) DeadLetter(ctx context.Context, sequence uint64) (DeadLetterDetails, error) {
	reply, err := c.admin(ctx, doorDead+"show", map[string]any{"sequence": sequence})
	if err != nil {
		return DeadLetterDetails{}, err
	}
	d := DeadLetterDetails{DeadLetter: DeadLetter{Raw: reply.Result}}
	var w struct {
		Error *wireError `json:"error"`
	}
	err = reply.Decode(&d)
	if err == nil {
		err = reply.Decode(&w)
	}
	if err != nil {
		return DeadLetterDetails{}, badReply("the answer about the dead letter is not the expected JSON: %v", err)
	}
	if w.Error != nil {
		d.Err = w.Error.error(d.Job, d.Attempts)
	}
	return d, nil
}

// Replay is a dead letter that was replayed.
type Replay struct {
	Sequence uint64 // of the letter
	Session  string // "" for an anonymous job
	Job      string // the new job: fetch its outcome with Wait
	Again    bool   // it had been replayed before; no second job was made
	Err      error  // why it could not be replayed: an *Error
}

// ReplayDeadLetter makes a new job of a dead letter, at the end of its session's queue or in its lane. Asking twice makes one
// job. The letter stays.
func (c *Client) ReplayDeadLetter(ctx context.Context, sequence uint64) (Replay, error) {
	for r, err := range c.replay(ctx, map[string]any{"sequence": sequence}, 1) {
		if err == nil {
			err = r.Err
		}
		return r, err
	}
	return Replay{}, badReply("the dead letter was neither replayed nor refused")
}

// ReplayDeadLetters replays all that the filter chooses, page by page while the loop goes on: a loop that is left early has
// replayed the whole page. What dies meanwhile is not replayed again.
func (c *Client) ReplayDeadLetters(ctx context.Context, f DeadLetterFilter) iter.Seq2[Replay, error] {
	ask := f.ask()
	if f.All {
		ask["all"] = true
	}
	return c.replay(ctx, ask, f.Limit)
}

func (c *Client) replay(ctx context.Context, ask map[string]any, limit int) iter.Seq2[Replay, error] {
	return func(yield func(Replay, error) bool) {
		over := false
		err := c.deadPages(ctx, "replay", ask, limit, func(page deadAnswer) (int, bool) {
			for _, raw := range page.Replayed {
				r, err := readReplay(raw)
				if !yield(r, err) || err != nil {
					over = true
					return 0, false
				}
			}
			return len(page.Replayed), true
		})
		if err != nil && !over {
			yield(Replay{}, err)
		}
	}
}

func readReplay(raw json.RawMessage) (Replay, error) {
	var w struct {
		Sequence     uint64
		Session, Job string
		Again        bool
		Error        *wireError
	}
	if err := json.Unmarshal(raw, &w); err != nil {
		return Replay{}, badReply("a replay is not the expected JSON: %v", err)
	}
	r := Replay{Sequence: w.Sequence, Session: w.Session, Job: w.Job, Again: w.Again}
	if w.Error != nil {
		r.Err = w.Error.error("", 0)
	}
	return r, nil
}

// PurgeDeadLetter removes one dead letter.
func (c *Client) PurgeDeadLetter(ctx context.Context, sequence uint64) error {
	_, err := c.purge(ctx, map[string]any{"sequence": sequence}, 1)
	return err
}

// PurgeDeadLetters removes all that the filter chooses and tells how many, also when it fails in between.
func (c *Client) PurgeDeadLetters(ctx context.Context, f DeadLetterFilter) (int, error) {
	ask := f.ask()
	if f.All {
		ask["all"] = true
	}
	return c.purge(ctx, ask, f.Limit)
}

func (c *Client) purge(ctx context.Context, ask map[string]any, limit int) (count int, err error) {
	err = c.deadPages(ctx, "purge", ask, limit, func(page deadAnswer) (int, bool) {
		count += page.Purged
		return page.Purged, true
	})
	return count, err
}
