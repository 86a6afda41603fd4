package dspex

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/contract"
)

type batchConfig struct {
	ask      map[string]any
	progress func(jobs int)
}

// BatchOption changes how a batch is submitted.
type BatchOption func(*batchConfig)

// BatchConcurrency bounds how many jobs of the batch are at the broker at a time: 1 to 1024, default 64.
func BatchConcurrency(n int) BatchOption { return func(c *batchConfig) { c.ask["concurrency"] = n } }

// BatchKeep sets how long jobs and outcomes are kept after the batch's end: 1 minute to 30 days, default 7 days.
func BatchKeep(d time.Duration) BatchOption {
	return func(c *batchConfig) { c.ask["keep_ms"] = d.Milliseconds() }
}

// BatchReplyTo names a subject that receives the batch when it has ended.
func BatchReplyTo(subject string) BatchOption {
	return func(c *batchConfig) { c.ask["reply_to"] = subject }
}

// BatchSkipInvalid lets invalid jobs fail and runs the others.
func BatchSkipInvalid() BatchOption { return func(c *batchConfig) { c.ask["skip_invalid"] = true } }

// BatchProgress calls f while jobs are uploaded, with their number so far.
func BatchProgress(f func(jobs int)) BatchOption { return func(c *batchConfig) { c.progress = f } }

// Bounds of an upload.
const (
	chunkJobs   = 128
	chunkValues = 90_000  // what a request may contain, but for its other keys
	chunkRoom   = 4 << 10 // of a request for all but its jobs
	mostInvalid = 10_000  // that are named
)

// SubmitBatch stores the jobs that the iterator gives and has them run. When it returns the batch is durable. It holds no more than a request
// of them in memory. An id makes it idempotent: the same jobs under the same id are one run, also after a failure in the middle; other jobs are
// an error of code conflict. "" gives the batch an id of its own. If jobs cannot be run the error is an *InvalidJobsError that names all of
// them, and nothing is submitted. Another failure of a batch without an id of the caller's is an *UnclearBatchError, which has its id: whether it
// runs may be unknown, and the same jobs under that id are the same run.
func (c *Client) SubmitBatch(ctx context.Context, id string, jobs iter.Seq2[BatchJob, error], opts ...BatchOption) (Batch, error) {
	if id != "" {
		b, _, err := c.submitBatch(ctx, id, jobs, opts)
		return b, err
	}
	random := make([]byte, 8)
	_, _ = rand.Read(random) // never fails
	id = "batch-" + hex.EncodeToString(random)
	b, asked, err := c.submitBatch(ctx, id, jobs, opts)
	if _, is := errors.AsType[*InvalidJobsError](err); err != nil && !is && asked {
		err = &UnclearBatchError{ID: id, Err: err}
	}
	return b, err
}

// UnclearBatchError is a failure of SubmitBatch that may have left something behind under an id which the caller has not chosen.
type UnclearBatchError struct {
	ID  string
	Err error
}

func (e *UnclearBatchError) Error() string { return "batch " + e.ID + ": " + e.Err.Error() }

// Unwrap is the failure itself.
func (e *UnclearBatchError) Unwrap() error { return e.Err }

// submitBatch also reports whether anything was requested.
func (c *Client) submitBatch(ctx context.Context, id string, jobs iter.Seq2[BatchJob, error], opts []BatchOption) (b Batch, asked bool, err error) {
	cfg := batchConfig{ask: map[string]any{}, progress: func(int) {}}
	for _, o := range opts {
		o(&cfg)
	}
	up := upload{c: c, id: id, large: map[int]*Error{}, skip: cfg.ask["skip_invalid"] == true, room: int(c.nc.MaxPayload())/2 - chunkRoom, progress: cfg.progress}
	for job, err := range jobs {
		if err == nil {
			err = up.add(ctx, job)
		}
		if err != nil {
			return Batch{}, up.asked, err
		}
	}
	if err := up.flush(ctx); err != nil {
		return Batch{}, up.asked, err
	}
	if up.sent == 0 {
		return Batch{}, false, invalid(contract.CodeBadRequest, "jobs", "at least one job", "there is none")
	}
	if len(up.invalid) > 0 && !up.skip {
		if up.fresh { // else it is another upload's, or was submitted
			_, _ = c.askBatch(ctx, contract.RPCBatchesErase, map[string]any{"batch": id, "upload": true})
		}
		return Batch{}, true, &InvalidJobsError{up.invalid}
	}
	cfg.ask["batch"], cfg.ask["jobs"] = id, up.sent
	delete(cfg.ask, "skip_invalid")
	b, err = c.askBatch(ctx, contract.RPCBatchesSubmit, cfg.ask)
	b.Invalid = up.invalid
	return b, true, err
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
	asked    bool           // something was sent
	fresh    bool           // something was stored that was not there
	large    map[int]*Error // jobs of the list whose arguments nobody takes
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
	raw, err := u.fitting(ctx, raw, job)
	if err != nil {
		return err
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

// fitting is a job with its arguments by reference if they are too large to be here. Arguments that are too large altogether are an invalid job.
func (u *upload) fitting(ctx context.Context, raw json.RawMessage, job BatchJob) (json.RawMessage, error) {
	if len(raw) <= u.room {
		return raw, nil
	}
	var named struct{ Session string }
	if named.Session = job.Session; job.Raw != nil {
		_ = json.Unmarshal(raw, &named) // what is not text is refused by the service
	}
	smaller, err := u.c.fitting(ctx, raw, named.Session)
	if e := asError(err); e != nil && e.Code == contract.CodeTooLarge {
		u.large[u.sent+len(u.list)] = e
		return json.RawMessage("null"), nil
	}
	return smaller, err
}

// flush uploads what has come together. A job that cannot even be read goes as null, which names it.
func (u *upload) flush(ctx context.Context) error {
	unreadable := u.large
	u.large = map[int]*Error{}
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
	u.asked = true
	reply, err := u.c.askAgain(ctx, contract.RPCBatchesUpload, map[string]any{"batch": u.id, "from": u.sent, "jobs": u.list, "skip_invalid": u.skip})
	e := asError(err)
	var more struct {
		invalidJobs
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

// invalidJobs are those that an answer names.
type invalidJobs struct {
	Invalid []struct {
		Index int        `json:"index"`
		Error *wireError `json:"error"`
	} `json:"invalid"`
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
