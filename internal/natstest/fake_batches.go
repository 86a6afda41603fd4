package natstest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/dspex/dspex/internal/contract"
)

// fakeBatchAsk is what requests about batches have.
type fakeBatchAsk struct {
	Batch    string          `json:"batch"`
	From     int             `json:"from"`
	Jobs     json.RawMessage `json:"jobs"`
	WaitMS   int             `json:"wait_ms"`
	Cursor   string          `json:"cursor"`
	Outcomes []string        `json:"outcomes"`
	Inputs   bool            `json:"inputs"`
	KeepMS   int64           `json:"keep_ms"`
	ReplyTo  string          `json:"reply_to"`
}

// fakeBatch is a batch and its outcomes so far.
type fakeBatch struct {
	id        string
	jobs      []json.RawMessage
	phase     string
	created   time.Time
	ended     time.Time
	keep      time.Duration
	replyTo   string
	cancelled chan struct{} // closed by the first cancel
	done      chan struct{} // closed when it has ended
	results   []map[string]any
}

func newFakeBatch(id string) *fakeBatch {
	return &fakeBatch{id: id, phase: "uploading", created: time.Now(), cancelled: make(chan struct{}), done: make(chan struct{})}
}

// stop cancels what has no outcome yet.
func (b *fakeBatch) stop() {
	if b.phase == "running" {
		b.phase = "cancelling"
		close(b.cancelled)
	}
}

// fakePage is how many results an answer has.
const fakePage = 100

// batches answers contract/batch.md as far as tests of clients need it: jobs are not checked before they run.
func (f *Fake) batches(r micro.Request) {
	var ask fakeBatchAsk
	if err := json.Unmarshal(r.Data(), &ask); err != nil {
		r.Respond(failed("", "", contract.Python, contract.CodeBadRequest, err.Error(), 0))
		return
	}
	verb := r.Subject()[strings.LastIndexByte(r.Subject(), '.')+1:]
	if verb == "get" && ask.WaitMS > 0 {
		f.awaitBatch(ask)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.batch(ask.Batch)
	if b == nil && (verb == "upload" || verb == "submit") {
		b = newFakeBatch(ask.Batch)
		f.batchList = append(f.batchList, b)
	}
	if b == nil && verb != "list" {
		r.Respond(failed("", "", contract.Session, contract.CodeBatchUnknown, "the batch is not known", 0))
		return
	}
	switch verb {
	case "upload":
		f.upload(r, b, ask)
	case "submit":
		f.submit(r, b, ask)
	case "list":
		list := []any{}
		for _, b := range slices.Backward(f.batchList) {
			list = append(list, b.shown())
		}
		r.Respond(envelope("", "", map[string]any{"ok": true, "result": map[string]any{"batches": list}}))
	case "results":
		r.Respond(envelope("", "", map[string]any{"ok": true, "result": b.page(ask)}))
	case "cancel", "erase":
		if verb == "cancel" {
			b.stop()
		} else {
			if b.phase == "running" || b.phase == "cancelling" {
				r.Respond(failed("", "", contract.Session, contract.CodeConflict, "the batch is running", 0))
				return
			}
			f.batchList = slices.DeleteFunc(f.batchList, func(o *fakeBatch) bool { return o == b })
		}
		r.Respond(succeeded("", "", b.shown()))
	default:
		r.Respond(succeeded("", "", b.shown()))
	}
}

func (f *Fake) batch(id string) *fakeBatch {
	if at := slices.IndexFunc(f.batchList, func(b *fakeBatch) bool { return b.id == id }); at >= 0 {
		return f.batchList[at]
	}
	return nil
}

func (f *Fake) awaitBatch(ask fakeBatchAsk) {
	f.mu.Lock()
	b := f.batch(ask.Batch)
	f.mu.Unlock()
	if b == nil {
		return
	}
	select {
	case <-b.done:
	case <-time.After(time.Duration(ask.WaitMS) * time.Millisecond):
	}
}

func (f *Fake) upload(r micro.Request, b *fakeBatch, ask fakeBatchAsk) {
	var jobs []json.RawMessage
	err := json.Unmarshal(ask.Jobs, &jobs)
	end := ask.From + len(jobs)
	switch {
	case err != nil || ask.From > len(b.jobs):
		r.Respond(failed("", "", contract.Python, contract.CodeBadRequest, "the jobs are no list, or some before them are missing", 0))
	case ask.From == len(b.jobs) && b.phase == "uploading":
		b.jobs = append(b.jobs, jobs...)
		r.Respond(succeeded("", "", map[string]any{"batch": b.id, "received": end, "again": false}))
	case end <= len(b.jobs) && slices.EqualFunc(jobs, b.jobs[ask.From:end], func(x, y json.RawMessage) bool { return string(x) == string(y) }):
		r.Respond(succeeded("", "", map[string]any{"batch": b.id, "received": end, "again": true}))
	default:
		r.Respond(failed("", "", contract.Session, contract.CodeConflict, fmt.Sprintf("the batch has other jobs from index %d on", ask.From), 0))
	}
}

func (f *Fake) submit(r micro.Request, b *fakeBatch, ask fakeBatchAsk) {
	var jobs []json.RawMessage
	count := 0
	if json.Unmarshal(ask.Jobs, &jobs) == nil {
		if count = len(jobs); len(b.jobs) == 0 {
			b.jobs = jobs
		}
	} else {
		_ = json.Unmarshal(ask.Jobs, &count) // else it is no number of jobs
	}
	if count != len(b.jobs) || count == 0 {
		r.Respond(failed("", "", contract.Session, contract.CodeConflict, fmt.Sprintf("the batch has %d jobs, not %d", len(b.jobs), count), 0))
		return
	}
	again := b.phase != "uploading"
	if !again {
		b.phase, b.replyTo = "running", ask.ReplyTo
		b.keep = cmp.Or(time.Duration(ask.KeepMS)*time.Millisecond, 7*24*time.Hour)
		go f.runBatch(b)
	}
	shown := b.shown()
	shown["again"] = again
	r.Respond(succeeded("", "", shown))
}

func (f *Fake) runBatch(b *fakeBatch) {
	for index, raw := range b.jobs {
		var line struct{ ID, Session string }
		_ = json.Unmarshal(raw, &line) // the job itself fails then
		job := fmt.Sprintf("b%s-%d", b.id, index)
		outcome, reply := f.runOf(b, line.Session, job, raw)
		result := map[string]any{"index": index, "job": job, "outcome": outcome, "attempts": 1, "reply": json.RawMessage(reply), "request": raw}
		if line.ID != "" {
			result["id"] = line.ID
		}
		if line.Session != "" {
			result["session"] = line.Session
		}
		f.mu.Lock()
		b.results = append(b.results, result)
		f.mu.Unlock()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	b.phase, b.ended = "ended", time.Now()
	if b.replyTo != "" {
		end, _ := json.Marshal(b.shown())
		f.nc.Publish(b.replyTo, end)
	}
	close(b.done)
}

// runOf runs a job unless its batch is cancelled, before it begins or while it runs.
func (f *Fake) runOf(b *fakeBatch, session, job string, raw []byte) (outcome string, reply []byte) {
	ran := make(chan []byte, 1)
	select {
	case <-b.cancelled:
	default:
		go func() { ran <- f.run(session, job, raw, nats.Header{}, "") }()
	}
	select {
	case <-b.cancelled:
		return "cancelled", failed(session, job, contract.System, contract.CodeCancelled, "its batch was cancelled", 0)
	case reply = <-ran:
	}
	var r struct{ OK bool }
	if _ = json.Unmarshal(reply, &r); !r.OK {
		return "failed", reply
	}
	return "succeeded", reply
}

func (b *fakeBatch) shown() map[string]any {
	outcomes := map[string]int{"succeeded": 0, "failed": 0, "cancelled": 0, "expired": 0}
	for _, r := range b.results {
		outcomes[r["outcome"].(string)]++
	}
	m := map[string]any{"batch": b.id, "phase": b.phase, "jobs": len(b.jobs), "outcomes": outcomes, "errors": map[string]any{}, "usage": map[string]any{}, "created_at": b.created}
	if !b.ended.IsZero() {
		m["ended_at"], m["expires_at"] = b.ended, b.ended.Add(b.keep)
	}
	return m
}

func (b *fakeBatch) page(ask fakeBatchAsk) map[string]any {
	from, _ := strconv.Atoi(ask.Cursor) // "" begins at 0
	list, answer := []any{}, map[string]any{}
	for n, r := range b.results {
		if n < from || len(ask.Outcomes) > 0 && !slices.Contains(ask.Outcomes, r["outcome"].(string)) {
			continue
		}
		if len(list) == fakePage {
			answer["cursor"] = strconv.Itoa(n)
			break
		}
		shown := map[string]any{}
		for key, value := range r {
			if key != "request" || ask.Inputs {
				shown[key] = value
			}
		}
		list = append(list, shown)
	}
	answer["results"] = list
	return answer
}
