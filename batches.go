package dspex

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"strconv"
	"strings"
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

// BatchPhase is where a batch stands.
type BatchPhase string

// The phases.
const (
	BatchUploading  BatchPhase = "uploading"
	BatchRunning    BatchPhase = "running"
	BatchCancelling BatchPhase = "cancelling"
	BatchEnded      BatchPhase = "ended"
	BatchRemoved    BatchPhase = "removed"
)

// Batch is what is known of a batch.
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

// Done is how many jobs have their outcome.
func (b Batch) Done() int {
	return b.Outcomes.Succeeded + b.Outcomes.Failed + b.Outcomes.Cancelled + b.Outcomes.Expired
}

// InvalidJob is a job that cannot be run.
type InvalidJob struct {
	Index int // in the batch, from 0
	Err   *Error
}

// InvalidJobsError says which jobs of a batch cannot be run. None of the batch was submitted.
type InvalidJobsError struct {
	Invalid []InvalidJob
}

func (e *InvalidJobsError) Error() string {
	return fmt.Sprintf("%d jobs of the batch cannot be run; the first is job %d: %v", len(e.Invalid), e.Invalid[0].Index, e.Invalid[0].Err)
}

type batchConfig struct {
	ask      map[string]any
	progress func(jobs int)
}

// BatchOption changes how a batch is submitted.
type BatchOption func(*batchConfig)

// BatchConcurrency bounds how many jobs of the batch are at the broker at a time: 1 to 1024, default 64.
func BatchConcurrency(n int) BatchOption { return func(c *batchConfig) { c.ask["concurrency"] = n } }

// BatchKeep says how long jobs and outcomes are kept after the batch's end: 1 minute to 30 days, default 7 days.
func BatchKeep(d time.Duration) BatchOption {
	return func(c *batchConfig) { c.ask["keep_ms"] = d.Milliseconds() }
}

// BatchReplyTo names a subject that is told the batch's end.
func BatchReplyTo(subject string) BatchOption {
	return func(c *batchConfig) { c.ask["reply_to"] = subject }
}

// BatchSkipInvalid lets jobs that cannot be run fail, and the others run.
func BatchSkipInvalid() BatchOption { return func(c *batchConfig) { c.ask["skip_invalid"] = true } }

// BatchProgress calls f while jobs are uploaded, with their number so far.
func BatchProgress(f func(jobs int)) BatchOption { return func(c *batchConfig) { c.progress = f } }

// Bounds of an upload.
const (
	chunkJobs   = 128
	chunkValues = 90_000  // what a request may contain, but for its other keys
	chunkRoom   = 4 << 10 // of a request for all but its jobs
	batchTime   = time.Minute
	batchPause  = 250 * time.Millisecond
	mostInvalid = 10_000 // that are named
)

// SubmitBatch stores the jobs that the iterator gives and has them run. When it returns the batch is durable. It holds no more than a request
// of them in memory. An id makes it idempotent: the same jobs under the same id are one run, also after a failure in the middle; other jobs are
// an error of code conflict. "" gives the batch an id of its own. If jobs cannot be run the error is an *InvalidJobsError that names all of
// them, and nothing is submitted.
func (c *Client) SubmitBatch(ctx context.Context, id string, jobs iter.Seq2[BatchJob, error], opts ...BatchOption) (Batch, error) {
	cfg := batchConfig{ask: map[string]any{}, progress: func(int) {}}
	for _, o := range opts {
		o(&cfg)
	}
	if id == "" {
		random := make([]byte, 8)
		_, _ = rand.Read(random) // never fails
		id = "batch-" + hex.EncodeToString(random)
	}
	up := upload{c: c, id: id, skip: cfg.ask["skip_invalid"] == true, room: int(c.nc.MaxPayload())/2 - chunkRoom, progress: cfg.progress}
	for job, err := range jobs {
		if err == nil {
			err = up.add(ctx, job)
		}
		if err != nil {
			return Batch{}, err
		}
	}
	if err := up.flush(ctx); err != nil {
		return Batch{}, err
	}
	if len(up.invalid) > 0 && !up.skip {
		if up.fresh { // else it is another upload's, or was submitted
			_, _ = c.askBatch(ctx, contract.RPCBatchesErase, map[string]any{"batch": id, "upload": true})
		}
		return Batch{}, &InvalidJobsError{up.invalid}
	}
	cfg.ask["batch"], cfg.ask["jobs"] = id, up.sent
	delete(cfg.ask, "skip_invalid")
	b, err := c.askBatch(ctx, contract.RPCBatchesSubmit, cfg.ask)
	b.Invalid = up.invalid
	return b, err
}

// upload cuts jobs into requests. The same jobs are always cut in the same way.
type upload struct {
	c        *Client
	id       string
	skip     bool
	room     int
	progress func(int)
	sent     int
	list     []json.RawMessage
	bytes    int
	values   int
	fresh    bool // something was stored that was not there
	invalid  []InvalidJob
}

func (u *upload) add(ctx context.Context, job BatchJob) error {
	raw := job.Raw
	if raw == nil {
		err := checkText(map[string]any{"args": job.Args, "options": job.Options}, "")
		if err == nil {
			raw, err = json.Marshal(job)
		}
		if err != nil {
			return invalid(CodeBadRequest, "", "", "job %d has no JSON form: %v", u.sent+len(u.list), err)
		}
	}
	values := 1
	for _, c := range raw {
		if c == ',' || c == ':' || c == '[' || c == '{' {
			values++
		}
	}
	if n := len(u.list); n == chunkJobs || n > 0 && (u.bytes+len(raw) >= u.room || u.values+values > chunkValues) {
		if err := u.flush(ctx); err != nil {
			return err
		}
	}
	u.list = append(u.list, raw)
	u.bytes += len(raw) + 1
	u.values += values
	return nil
}

// flush uploads what has come together. A job that cannot even be read goes as null, which names it.
func (u *upload) flush(ctx context.Context) error {
	unreadable := map[int]*Error{}
	for i, raw := range u.list {
		if !json.Valid(raw) {
			u.list[i] = json.RawMessage("null")
			unreadable[u.sent+i] = invalid(CodeBadRequest, "", "a JSON object", "the job is not JSON")
		}
	}
	for len(u.list) > 0 {
		again, err := u.send(ctx, unreadable)
		if err != nil {
			return err
		}
		if again {
			continue
		}
		u.sent += len(u.list)
		u.list, u.bytes, u.values = u.list[:0], 0, 0
		u.progress(u.sent)
	}
	return nil
}

// send uploads once. again: a job could not be read, and was taken out.
func (u *upload) send(ctx context.Context, unreadable map[int]*Error) (again bool, err error) {
	reply, err := u.c.askAgain(ctx, contract.RPCBatchesUpload, map[string]any{"batch": u.id, "from": u.sent, "jobs": u.list, "skip_invalid": u.skip})
	e := asError(err)
	var more struct {
		Invalid []struct {
			Index int        `json:"index"`
			Error *wireError `json:"error"`
		} `json:"invalid"`
		Result struct {
			Again bool `json:"again"`
		} `json:"result"`
	}
	if len(reply.Raw) > 0 {
		if bad := json.Unmarshal(reply.Raw, &more); bad != nil {
			return false, badReply("the answer to an upload is not the expected JSON: %v", bad)
		}
	}
	if i, path, named := jobOf(e); named && i < len(u.list) && !bytes.Equal(u.list[i], []byte("null")) {
		e.Path = path
		unreadable[u.sent+i] = e
		u.list[i] = json.RawMessage("null")
		return true, nil
	}
	if err != nil && (e == nil || e.Code != contract.CodeBadBatch || len(more.Invalid) == 0) {
		return false, err
	}
	for _, i := range more.Invalid {
		if i.Error == nil || len(u.invalid) >= mostInvalid {
			continue
		}
		why := i.Error.error(JobRef{}, 0)
		if known := unreadable[i.Index]; known != nil {
			why = known
		}
		u.invalid = append(u.invalid, InvalidJob{i.Index, why})
	}
	u.fresh = u.fresh || err == nil && !more.Result.Again
	return false, nil
}

// jobOf reads which job of a list a refusal is about: its path begins with jobs[i].
func jobOf(e *Error) (index int, path string, named bool) {
	if e == nil {
		return 0, "", false
	}
	rest, named := strings.CutPrefix(e.Path, "jobs[")
	if !named {
		return 0, "", false
	}
	number, path, named := strings.Cut(rest, "]")
	index, err := strconv.Atoi(number)
	return index, strings.TrimPrefix(path, "."), named && err == nil
}

// askAgain asks until that is answered for good: what is asked about batches may be asked twice.
func (c *Client) askAgain(ctx context.Context, subject string, body any) (Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, batchTime)
	defer cancel()
	for {
		try, end := context.WithTimeout(ctx, batchTime/4)
		reply, err := c.ask(try, subject, body)
		end()
		e := asError(err)
		if e == nil || ctx.Err() != nil || !e.Retryable && e.Code != CodeClientTimeout && e.Code != CodeBroker && e.Code != CodePoolUnavailable || e.Code == contract.CodeQuota {
			return reply, err
		}
		select {
		case <-ctx.Done():
			return reply, err
		case <-time.After(batchPause):
		}
	}
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

// GetBatch tells where a batch stands. One that is not known, or was removed, is an error of code batch_unknown.
func (c *Client) GetBatch(ctx context.Context, id string) (Batch, error) {
	return c.askBatch(ctx, contract.RPCBatchesGet, map[string]any{"batch": id})
}

// CancelBatch ends a batch early: what has not begun does not run. One that has ended stays as it is.
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
	return func(yield func(Batch, error) bool) {
		ask := map[string]any{}
		for {
			var page struct {
				Batches []json.RawMessage
				Cursor  string
			}
			reply, err := c.askAgain(ctx, contract.RPCBatchesList, ask)
			if err == nil {
				err = reply.Decode(&page)
			}
			if err != nil {
				yield(Batch{}, err)
				return
			}
			for _, raw := range page.Batches {
				b, err := readBatch(raw)
				if !yield(b, err) || err != nil {
					return
				}
			}
			if page.Cursor == "" {
				return
			}
			ask["cursor"] = page.Cursor
		}
	}
}

// BatchResult is how a job of a batch ended.
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

// BatchPending is the status of a job that has no outcome yet.
const BatchPending JobStatus = "pending"

// BatchQuery says which results are wanted. The zero value means all that are there.
type BatchQuery struct {
	Outcomes []JobStatus // only these; BatchPending names jobs that have none
	Inputs   bool        // each with the request
}

// BatchResults gives the outcomes of a batch in the order of its jobs, page by page, also while it runs: jobs that have none yet are left out.
func (c *Client) BatchResults(ctx context.Context, id string, q BatchQuery) iter.Seq2[BatchResult, error] {
	return func(yield func(BatchResult, error) bool) {
		ask := map[string]any{"batch": id}
		if len(q.Outcomes) > 0 {
			ask["outcomes"] = q.Outcomes
		}
		if q.Inputs {
			ask["inputs"] = true
		}
		for {
			var page struct {
				Results []json.RawMessage
				Cursor  string
			}
			reply, err := c.askAgain(ctx, contract.RPCBatchesResults, ask)
			if err == nil {
				err = reply.Decode(&page)
			}
			if err != nil {
				yield(BatchResult{}, err)
				return
			}
			for _, raw := range page.Results {
				r, err := readBatchResult(raw)
				if !yield(r, err) || err != nil {
					return
				}
			}
			if page.Cursor == "" {
				return
			}
			ask["cursor"] = page.Cursor
		}
	}
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
