package dspex

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"time"

	"github.com/dspex/dspex/internal/contract"
)

// BatchJob is one job of a batch.
type BatchJob struct {
	ID      string         `json:"id,omitempty"`      // the caller's own name for it, which its result has too
	Session string         `json:"session,omitempty"` // "": none
	Command string         `json:"command"`
	Args    Args           `json:"args,omitempty"`
	Options map[string]any `json:"options,omitempty"` // contract/job.md, "Request body"

	Raw json.RawMessage `json:"-"` // the whole job as one JSON object, instead of the fields
}

// BatchPhase is the progress of a batch.
type BatchPhase string

// The phases.
const (
	BatchUploading  BatchPhase = "uploading"
	BatchRunning    BatchPhase = "running"
	BatchCancelling BatchPhase = "cancelling"
	BatchEnded      BatchPhase = "ended"
	BatchRemoved    BatchPhase = "removed"
)

// Batch is the state of a batch.
type Batch struct {
	ID       string     `json:"batch"`
	Phase    BatchPhase `json:"phase"`
	Jobs     int        `json:"jobs"`
	Outcomes struct {
		Succeeded int `json:"succeeded"`
		Failed    int `json:"failed"`
		Cancelled int `json:"cancelled"`
		Expired   int `json:"expired"`
	} `json:"outcomes"`
	Errors      map[string]int              `json:"errors"` // by code
	Usage       map[string]map[string]int64 `json:"usage"`  // of the language models: model, counter, sum
	Concurrency int                         `json:"concurrency"`
	Digest      string                      `json:"digest"` // of its jobs
	Lost        bool                        `json:"lost"`   // the store lost jobs of it
	Again       bool                        `json:"again"`  // of SubmitBatch: it was submitted before
	CreatedAt   time.Time                   `json:"created_at"`
	SubmittedAt time.Time                   `json:"submitted_at"`
	EndedAt     time.Time                   `json:"ended_at"`
	ExpiresAt   time.Time                   `json:"expires_at"` // when it is removed; zero until it has ended

	Invalid []InvalidJob    `json:"-"` // of SubmitBatch with BatchSkipInvalid
	Raw     json.RawMessage `json:"-"`
}

// Done is the number of jobs with an outcome.
func (b Batch) Done() int {
	return b.Outcomes.Succeeded + b.Outcomes.Failed + b.Outcomes.Cancelled + b.Outcomes.Expired
}

// InvalidJob is a job that was refused.
type InvalidJob struct {
	Index int // in the batch, from 0
	Err   *Error
}

// InvalidJobsError lists the invalid jobs of a batch, or of SubmitAll. None of them was submitted.
type InvalidJobsError struct {
	Invalid []InvalidJob
}

func (e *InvalidJobsError) Error() string {
	first := e.Invalid[0]
	if len(e.Invalid) == 1 {
		return fmt.Sprintf("job %d is invalid: %v", first.Index, first.Err)
	}
	return fmt.Sprintf("%d jobs are invalid; the first is job %d: %v", len(e.Invalid), first.Index, first.Err)
}

// Unwrap are the errors of the jobs, so that errors.Is and errors.As match each of them.
func (e *InvalidJobsError) Unwrap() []error {
	all := make([]error, len(e.Invalid))
	for i, job := range e.Invalid {
		all[i] = job.Err
	}
	return all
}

// Bounds of a request about batches.
const (
	batchTime  = time.Minute // all tries
	batchPause = 250 * time.Millisecond
)

// askAgain sends a request until there is a final answer: all requests about batches may be sent twice.
func (c *Client) askAgain(ctx context.Context, subject string, body any) (Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, batchTime)
	defer cancel()
	for {
		try, end := context.WithTimeout(ctx, batchTime/4)
		reply, err := c.ask(try, subject, body)
		end()
		e := asError(err)
		if e == nil || ctx.Err() != nil || !worthAskingAgain(e) {
			return reply, err
		}
		select {
		case <-ctx.Done():
			return reply, err
		case <-time.After(batchPause):
		}
	}
}

// worthAskingAgain reports whether the next answer may be another one: in a moment, and without the caller.
func worthAskingAgain(e *Error) bool {
	switch e.Code {
	case contract.CodeQuota, contract.CodeQueueFull:
		return false
	case CodeClientTimeout, CodeBroker, CodePoolUnavailable:
		return true
	}
	return e.Retryable
}

func (c *Client) askBatch(ctx context.Context, subject string, body map[string]any) (Batch, error) {
	reply, err := c.askAgain(ctx, subject, body)
	if err != nil {
		return Batch{}, err
	}
	return readBatch(reply.Result)
}

func readBatch(raw json.RawMessage) (Batch, error) {
	b := Batch{Raw: raw}
	if err := json.Unmarshal(raw, &b); err != nil {
		return Batch{}, badReply("the answer about the batch is not the expected JSON: %v", err)
	}
	return b, nil
}

// GetBatch returns the state of a batch. One that is unknown, or was removed, is an error of code batch_unknown.
func (c *Client) GetBatch(ctx context.Context, id string) (Batch, error) {
	return c.askBatch(ctx, contract.RPCBatchesGet, map[string]any{"batch": id})
}

// CancelBatch ends a batch early: jobs that have not begun do not run. One that has ended stays as it is.
func (c *Client) CancelBatch(ctx context.Context, id string) (Batch, error) {
	return c.askBatch(ctx, contract.RPCBatchesCancel, map[string]any{"batch": id})
}

// EraseBatch removes a batch that has ended, or was not submitted, with its jobs and outcomes.
func (c *Client) EraseBatch(ctx context.Context, id string) (Batch, error) {
	return c.askBatch(ctx, contract.RPCBatchesErase, map[string]any{"batch": id})
}

// WaitBatch waits until the batch has ended, as long as ctx allows. A dispatcher that is restarted meanwhile does not end it.
func (c *Client) WaitBatch(ctx context.Context, id string) (Batch, error) {
	for {
		b, err := c.askBatch(ctx, contract.RPCBatchesGet, map[string]any{"batch": id, "wait_ms": batchTime.Milliseconds() / 8})
		if err != nil || b.Phase == BatchEnded {
			return b, err
		}
	}
}

// Batches lists the batches, the newest first.
func (c *Client) Batches(ctx context.Context) iter.Seq2[Batch, error] {
	return listed(ctx, pages{request: c.askAgain, subject: contract.RPCBatchesList, ask: map[string]any{}}, "batches", readBatch)
}

// BatchesPage returns one page of Batches: at most limit of them, 1 to 200, from a cursor on ("" for the first page).
func (c *Client) BatchesPage(ctx context.Context, limit int, cursor string) (Page[Batch], error) {
	return onePage(ctx, pages{request: c.ask, subject: contract.RPCBatchesList, ask: map[string]any{}, limit: limit}, cursor, mostBatchPage, "batches", readBatch)
}

// mostBatchPage is the largest page of batches.
const mostBatchPage = 200

// BatchResult is the outcome of a job of a batch.
type BatchResult struct {
	Index    int
	ID       string // the submitter's name for it
	Job      JobRef
	Status   JobStatus // "pending": it has no outcome yet
	Attempts int
	Reply    *Reply
	Err      error           // why it did not succeed: an *Error
	Request  json.RawMessage // with BatchResults.Inputs
	Raw      json.RawMessage
}

// BatchPending is the status of a job without an outcome.
const BatchPending JobStatus = "pending"

// BatchQuery selects results. The zero value selects all.
type BatchQuery struct {
	Outcomes []JobStatus // only these; BatchPending selects jobs without an outcome
	Inputs   bool        // each with the request
}

// BatchResults gives the outcomes of a batch in the order of its jobs, page by page, also while it runs: jobs that have none yet are left out.
func (c *Client) BatchResults(ctx context.Context, id string, q BatchQuery) iter.Seq2[BatchResult, error] {
	ask := map[string]any{"batch": id}
	if len(q.Outcomes) > 0 {
		ask["outcomes"] = q.Outcomes
	}
	if q.Inputs {
		ask["inputs"] = true
	}
	return listed(ctx, pages{request: c.askAgain, subject: contract.RPCBatchesResults, ask: ask}, "results", func(raw json.RawMessage) (BatchResult, error) {
		r, err := readBatchResult(raw)
		return c.resolvedResult(ctx, r, err)
	})
}

// resolvedResult has a large result in the place of the reference. That of an object which is gone fails alone.
func (c *Client) resolvedResult(ctx context.Context, r BatchResult, err error) (BatchResult, error) {
	if err != nil || r.Err != nil || r.Reply == nil || r.Reply.Object == nil {
		return r, err
	}
	*r.Reply, r.Err = c.resolved(ctx, *r.Reply, nil)
	if e := asError(r.Err); e != nil && e.Code == contract.CodeObjectUnknown {
		return r, nil
	}
	if r.Err != nil {
		return r, r.Err
	}
	var line map[string]json.RawMessage
	if err := json.Unmarshal(r.Raw, &line); err != nil {
		return r, badReply("a result of the batch is not the expected JSON: %v", err)
	}
	line["reply"] = r.Reply.Raw
	r.Raw, err = json.Marshal(line)
	return r, err
}

func readBatchResult(raw json.RawMessage) (BatchResult, error) {
	var w struct {
		Index    int             `json:"index"`
		ID       string          `json:"id"`
		Session  string          `json:"session"`
		Job      string          `json:"job"`
		Outcome  JobStatus       `json:"outcome"`
		Attempts int             `json:"attempts"`
		Reply    json.RawMessage `json:"reply"`
		Request  json.RawMessage `json:"request"`
	}
	if err := json.Unmarshal(raw, &w); err != nil {
		return BatchResult{}, badReply("a result of the batch is not the expected JSON: %v", err)
	}
	r := BatchResult{Index: w.Index, ID: w.ID, Job: JobRef{w.Session, w.Job}, Status: w.Outcome, Attempts: w.Attempts, Request: w.Request, Raw: raw}
	if len(w.Reply) > 0 {
		reply, err := parseReply(w.Reply, r.Job)
		r.Reply, r.Err = &reply, err
	}
	return r, nil
}
