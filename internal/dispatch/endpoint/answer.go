package endpoint

import (
	"errors"
	"time"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/service"
	"github.com/dspex/dspex/internal/stream"
	"github.com/dspex/dspex/internal/wire"
)

// RespondResult answers a request that runs no job.
func RespondResult(r Request, result map[string]any) {
	body, err := wire.Encode(map[string]any{"ok": true, "result": result})
	if err != nil {
		Refuse(r, jobs.Errorf(jobs.System, jobs.CodeBug, "the answer cannot be encoded: %v", err))
		return
	}
	Respond(r, body)
}

// Unreadable reports that the broker did not give what was requested.
func Unreadable(err error) *jobs.Error {
	return jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the broker did not answer: %v", err).Again()
}

// NotAccepted reports why a job was not kept.
func NotAccepted(err error) *jobs.Error {
	switch {
	case errors.Is(err, stream.ErrSubjectFull):
		e := jobs.Errorf(jobs.Resource, jobs.CodeQueueFull, "the session's queue is full").
			WithHint("wait until some of its jobs have ended").Again()
		e.RetryAfter = jobs.QueueFullRetry
		return e
	case errors.Is(err, stream.ErrBusy):
		e := jobs.Errorf(jobs.Resource, jobs.CodeOverloaded, "the broker has too many messages waiting to be stored").
			WithHint("retry after retry_after_ms").Again()
		e.RetryAfter = jobs.QueueFullRetry
		return e
	case errors.Is(err, stream.ErrTakesNothing):
		return jobs.Errorf(jobs.Resource, jobs.CodeStoreFull, "the broker's store is full: %v", err).
			WithHint("operators: make room on the broker's disk, then restart nats-server (docs/operations.md, A full disk); a job sent in the meantime may have been stored, so send it again with the same %s", jobs.HeaderJob).Again()
	case errors.Is(err, stream.ErrStoreFull):
		return jobs.Errorf(jobs.Resource, jobs.CodeStoreFull, "the broker's store is full").
			WithHint("operators: see `dspex health` and docs/operations.md (Blocked jobs) for the size to increase").Again()
	}
	if errors.Is(err, stream.ErrNoStream) {
		return jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the job was not accepted: its stream is missing").
			WithHint("the dispatcher recreates it within seconds; `dspex health` reports if it cannot").Again()
	}
	return jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the job was not accepted: %v", err).
		WithHint("it may have been stored anyway: send it again with the same %s to be sure", jobs.HeaderJob).Again()
}

// Refuse answers a request that became no job.
func Refuse(r Request, e *jobs.Error) {
	if a, is := r.(interface{ NoteRefusal(*jobs.Error) }); is {
		a.NoteRefusal(e)
	}
	body := (&jobs.Reply{Err: e}).Append(nil)
	Respond(r, body)
}

// Respond sends a MessagePack body in the requested form. The client may be gone: then the answer is lost.
func Respond(r Request, body []byte) {
	kind, bad := jobs.ContentType(r.Headers().Get(jobs.HeaderContentType))
	if bad != nil {
		kind = jobs.JSON
	}
	number, text, failed := jobs.ReplyError(body)
	header := service.Headers{jobs.HeaderContentType: {kind}}
	if kind == jobs.JSON {
		inJSON, err := wire.AppendJSON(nil, body)
		if err == nil {
			body = inJSON
		} else {
			header[jobs.HeaderContentType] = []string{jobs.MsgPack}
		}
	}
	if failed {
		_ = r.Refuse(number, text, body, header)
		return
	}
	if err := r.Respond(body, header); err != nil { // too large in this form, or the connection is gone
		Refuse(r, jobs.Errorf(jobs.Session, jobs.CodeResultTooLarge, "the answer has %d bytes in the requested form", len(body)).
			WithHint("request it in MessagePack (Content-Type: %s)", jobs.MsgPack))
	}
}

// TakesNothing refuses a body with entries: they would have no effect.
func TakesNothing(r Request) bool {
	in, n, bad := OpenBody(r, "an empty map")
	if bad == nil && n > 0 {
		key, _ := in.Str()
		bad = WrongEntry(key, nil)
	}
	if bad != nil {
		Refuse(r, bad)
	}
	return bad == nil
}

// Paged adds the cursor of the next page to a result, if there is one.
func Paged(result map[string]any, cursor string) map[string]any {
	if cursor != "" {
		result["cursor"] = cursor
	}
	return result
}

// OrNil is nil for a text that is empty.
func OrNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// TimeText is a time as answers have it.
func TimeText(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
