package dspex

import (
	"cmp"
	"context"
	"encoding/json"
	"iter"
	"time"

	"github.com/dspex/dspex/internal/contract"
)

// DeadLetter is a job that failed permanently although a retry could have helped. It is kept for 30 days.
type DeadLetter struct {
	Sequence   uint64 // its name
	Job        JobRef
	Lane       Lane   // of an anonymous job
	Mode       string // call or queue
	Command    string // "" if the request could not be read
	Attempts   int
	Category   ErrorCategory
	Code       string
	Message    string
	CreatedAt  time.Time   // of the dead letter
	AcceptedAt time.Time   // of the job
	Bytes      int         // of the request
	Replayed   *ReplayedAs // nil if it was not

	Raw json.RawMessage // the raw result
}

// ReplayedAs is the job that a dead letter was replayed as.
type ReplayedAs struct {
	Job JobRef
	At  time.Time
}

// DeadLetterDetails is everything about one dead letter.
type DeadLetterDetails struct {
	DeadLetter
	Request      json.RawMessage  // nil if it cannot be read
	RequestBytes []byte           // then
	Failures     []AttemptFailure // the earliest may be missing
	LastError    *Error           // as in the job's reply
}

// wireDeadLetter is a dead letter as contract/dead-letters.md spells it.
type wireDeadLetter struct {
	Sequence   uint64        `json:"sequence"`
	Job        string        `json:"job"`
	Session    string        `json:"session"`
	Lane       Lane          `json:"lane"`
	Mode       string        `json:"mode"`
	Command    string        `json:"command"`
	Attempts   int           `json:"attempts"`
	Category   ErrorCategory `json:"error_category"`
	Code       string        `json:"code"`
	Message    string        `json:"message"`
	BuriedAt   time.Time     `json:"buried_at"`
	AcceptedAt time.Time     `json:"accepted_at"`
	Bytes      int           `json:"bytes"`
	Replayed   *struct {
		Job string    `json:"job"`
		At  time.Time `json:"at"`
	} `json:"replayed"`

	Request      json.RawMessage  `json:"request"`
	RequestBytes []byte           `json:"request_bytes"`
	Failures     []AttemptFailure `json:"failures"`
	Error        *wireError       `json:"error"`
}

// readDeadLetter reads a dead letter as it is listed, or everything about it.
func readDeadLetter(raw json.RawMessage) (DeadLetterDetails, error) {
	var w wireDeadLetter
	if err := json.Unmarshal(raw, &w); err != nil {
		return DeadLetterDetails{}, badReply("a dead letter is not the expected JSON: %v", err)
	}
	d := DeadLetterDetails{DeadLetter: DeadLetter{
		Sequence: w.Sequence, Job: JobRef{w.Session, w.Job}, Lane: w.Lane, Mode: w.Mode, Command: w.Command, Attempts: w.Attempts,
		Category: w.Category, Code: w.Code, Message: w.Message, CreatedAt: w.BuriedAt, AcceptedAt: w.AcceptedAt, Bytes: w.Bytes, Raw: raw,
	}, Request: w.Request, RequestBytes: w.RequestBytes, Failures: w.Failures}
	if w.Replayed != nil {
		d.Replayed = &ReplayedAs{JobRef{w.Session, w.Replayed.Job}, w.Replayed.At}
	}
	if w.Error != nil {
		d.LastError = w.Error.error(d.Job, d.Attempts)
	}
	return d, nil
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

// DeadLetterFilter chooses dead letters. Its zero value lists all; to replay or to purge all, All must be set.
type DeadLetterFilter struct {
	Session   string
	Anonymous bool          // those without session
	Category  ErrorCategory // of the last error
	Code      string        // of the last error
	OlderThan time.Duration // since the dead letter was written
	NewerThan time.Duration
	Replayed  *bool // whether it was
	All       bool  // to replay or to purge without any of the above
	Limit     int   // 0: no limit
}

func (f DeadLetterFilter) ask() map[string]any {
	ask := chosen(f.Anonymous, f.OlderThan, f.NewerThan, map[string]string{"session": f.Session, "error_category": string(f.Category), "code": f.Code})
	if f.Replayed != nil {
		ask["replayed"] = *f.Replayed
	}
	return ask
}

// mostDeadPage bounds what one request does: each dead letter of a replay or a purge costs the broker a few writes.
const mostDeadPage = 100

// DeadLetters lists dead letters, the oldest first. It reads page by page while the loop goes on.
func (a *Admin) DeadLetters(ctx context.Context, f DeadLetterFilter) iter.Seq2[DeadLetter, error] {
	return listed(ctx, a.deadPages(contract.RPCDeadList, f.ask(), f.Limit), "letters", func(raw json.RawMessage) (DeadLetter, error) {
		l, err := readDeadLetter(raw)
		return l.DeadLetter, err
	})
}

// DeadLettersPage returns one page of DeadLetters: at most f.Limit of them, 1 to 100, from a cursor on ("" for the first page).
func (a *Admin) DeadLettersPage(ctx context.Context, f DeadLetterFilter, cursor string) (Page[DeadLetter], error) {
	return onePage(ctx, a.deadPages(contract.RPCDeadList, f.ask(), f.Limit), cursor, mostDeadPage, "letters", func(raw json.RawMessage) (DeadLetter, error) {
		l, err := readDeadLetter(raw)
		return l.DeadLetter, err
	})
}

func (a *Admin) deadPages(subject string, ask map[string]any, limit int) pages {
	return pages{a.c.ask, subject, ask, mostDeadPage, limit}
}

// GetDeadLetter returns everything about one dead letter. One that is not there is an error of category ErrSession, code
// dead_letter_unknown.
func (a *Admin) GetDeadLetter(ctx context.Context, sequence uint64) (DeadLetterDetails, error) {
	reply, err := a.c.ask(ctx, contract.RPCDeadShow, map[string]any{"sequence": sequence})
	if err != nil {
		return DeadLetterDetails{}, err
	}
	return readDeadLetter(reply.Result)
}

// ReplayResult is the result of replaying a dead letter.
type ReplayResult struct {
	Sequence uint64 // of the dead letter
	Job      JobRef // the new job: fetch its outcome with Wait
	Existing bool   // it had been replayed before: no second job was made
	Err      error  // why it could not be replayed: an *Error
}

// ReplayDeadLetter makes a new job of a dead letter, at the end of its session's queue or in its lane. Two requests make one
// job. The dead letter stays.
func (a *Admin) ReplayDeadLetter(ctx context.Context, sequence uint64) (ReplayResult, error) {
	for r, err := range a.replay(ctx, map[string]any{"sequence": sequence}, 1) {
		if err == nil {
			err = r.Err
		}
		return r, err
	}
	return ReplayResult{}, badReply("the dead letter was neither replayed nor refused")
}

// ReplayDeadLetters replays all that match the filter, page by page while the loop goes on: a loop that is left early has
// replayed the whole page. Jobs dead-lettered during the call are not included.
func (a *Admin) ReplayDeadLetters(ctx context.Context, f DeadLetterFilter) iter.Seq2[ReplayResult, error] {
	ask := f.ask()
	if f.All {
		ask["all"] = true
	}
	return a.replay(ctx, ask, f.Limit)
}

func (a *Admin) replay(ctx context.Context, ask map[string]any, limit int) iter.Seq2[ReplayResult, error] {
	return listed(ctx, a.deadPages(contract.RPCDeadReplay, ask, limit), "replayed", readReplay)
}

func readReplay(raw json.RawMessage) (ReplayResult, error) {
	var w struct {
		Sequence     uint64
		Session, Job string
		Again        bool
		Error        *wireError
	}
	if err := json.Unmarshal(raw, &w); err != nil {
		return ReplayResult{}, badReply("a replay is not the expected JSON: %v", err)
	}
	r := ReplayResult{Sequence: w.Sequence, Job: JobRef{w.Session, w.Job}, Existing: w.Again}
	if w.Error != nil {
		r.Err = w.Error.error(r.Job, 0)
	}
	return r, nil
}

// PurgeDeadLetter removes one dead letter.
func (a *Admin) PurgeDeadLetter(ctx context.Context, sequence uint64) error {
	_, err := a.purge(ctx, map[string]any{"sequence": sequence}, 1)
	return err
}

// PurgeDeadLetters removes all that match the filter and returns their number, even if it fails on the way.
func (a *Admin) PurgeDeadLetters(ctx context.Context, f DeadLetterFilter) (int, error) {
	ask := f.ask()
	if f.All {
		ask["all"] = true
	}
	return a.purge(ctx, ask, f.Limit)
}

func (a *Admin) purge(ctx context.Context, ask map[string]any, limit int) (count int, err error) {
	var bad error
	err = a.deadPages(contract.RPCDeadPurge, ask, limit).each(ctx, func(page map[string]json.RawMessage) (int, bool) {
		var purged int
		if e := json.Unmarshal(page["purged"], &purged); e != nil {
			bad = badReply("how many dead letters were removed is not the expected JSON: %v", e)
			return 0, false
		}
		count += purged
		return purged, true
	})
	return count, cmp.Or(err, bad)
}
