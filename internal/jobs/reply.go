package jobs

import (
	"slices"
	"strconv"
	"time"

	"github.com/dspex/dspex/internal/wire"
)

// StateOf reports in a reply what became of the session's state.
type StateOf string

// Session states in replies.
const (
	Warm     StateOf = "warm"     // the worker held it
	Restored StateOf = "restored" // from the record
	None     StateOf = "none"     // nothing was known
	Reset    StateOf = "reset"    // known to be lost
)

// Reply is what a client gets; Append gives its canonical MessagePack body.
type Reply struct {
	Job     string // empty: the request became no job
	Attempt int
	Session string // empty: anonymous
	Host    string
	Worker  string
	State   StateOf
	Engine  string
	Queued  time.Duration
	Run     time.Duration
	Result  []byte     // MessagePack, when Err is nil
	Object  *ObjectRef // where the result is, when it is too large to be here
	Usage   []byte     // MessagePack map, or nil
	Err     *Error
}

// Append writes the body.
func (r *Reply) Append(dst []byte) []byte {
	fields := 2 // ok, result or error
	if r.Job != "" {
		fields += 3 // attempt, job, timing
	}
	if r.Engine != "" {
		fields++
	}
	if r.Session != "" || r.Host != "" {
		fields++
	}
	if r.Usage != nil {
		fields++
	}
	dst = wire.AppendMap(slices.Grow(dst, fixedBytes+len(r.Result)+len(r.Usage)), fields)
	if r.Job != "" {
		dst = wire.AppendInt(wire.AppendStr(dst, "attempt"), int64(r.Attempt))
	}
	if r.Engine != "" {
		dst = wire.AppendStr(wire.AppendStr(dst, "engine"), r.Engine)
	}
	if r.Err != nil {
		dst = r.Err.append(wire.AppendStr(dst, "error"), r.Job, r.Attempt, r.Worker)
	}
	if r.Job != "" {
		dst = wire.AppendStr(wire.AppendStr(dst, "job"), r.Job)
	}
	dst = wire.AppendBool(wire.AppendStr(dst, "ok"), r.Err == nil)
	if r.Session == "" && r.Host != "" {
		dst = wire.AppendMap(wire.AppendStr(dst, "ran_on"), 2)
		dst = wire.AppendStr(wire.AppendStr(dst, "host"), r.Host)
		dst = wire.AppendStr(wire.AppendStr(dst, "worker"), r.Worker)
	}
	switch {
	case r.Err != nil:
	case r.Object != nil:
		dst = r.Object.Append(wire.AppendStr(dst, "result_object"))
	default:
		dst = append(wire.AppendStr(dst, "result"), r.Result...)
	}
	if r.Session != "" {
		dst = wire.AppendMap(wire.AppendStr(dst, "session"), 4)
		dst = wire.AppendStr(wire.AppendStr(dst, "host"), r.Host)
		dst = wire.AppendStr(wire.AppendStr(dst, "id"), r.Session)
		dst = wire.AppendStr(wire.AppendStr(dst, "state"), string(r.State))
		dst = wire.AppendStr(wire.AppendStr(dst, "worker"), r.Worker)
	}
	if r.Job != "" {
		dst = wire.AppendMap(wire.AppendStr(dst, "timing"), 2)
		dst = wire.AppendInt(wire.AppendStr(dst, "queued_ms"), max(r.Queued.Milliseconds(), 0))
		dst = wire.AppendInt(wire.AppendStr(dst, "run_ms"), r.Run.Milliseconds())
	}
	if r.Usage != nil {
		dst = append(wire.AppendStr(dst, "usage"), r.Usage...)
	}
	return dst
}

func (e *Error) append(dst []byte, job string, attempt int, worker string) []byte {
	t := e.Traits()
	if e.Worker != "" {
		worker = e.Worker
	}
	texts := [][2]string{
		{"code", e.Code}, {"error_category", string(e.Category)}, {"expected", e.Expected}, {"hint", e.Hint}, {"job", job}, {"message", e.Message},
		{"path", e.Path}, {"python_type", e.PythonType}, {"recovery_strategy", t.Strategy}, {"severity", t.Severity},
		{"traceback", e.Traceback}, {"worker", worker},
	}
	fields := 2
	for _, kv := range texts {
		if kv[1] != "" {
			fields++
		}
	}
	if attempt > 0 {
		fields++
	}
	if e.RetryAfter > 0 {
		fields += 2
	}
	dst = wire.AppendMap(dst, fields)
	if attempt > 0 {
		dst = wire.AppendInt(wire.AppendStr(dst, "attempt"), int64(attempt))
	}
	for _, kv := range texts {
		if kv[1] != "" {
			dst = wire.AppendStr(wire.AppendStr(dst, kv[0]), kv[1])
		}
	}
	dst = wire.AppendBool(wire.AppendStr(dst, "recoverable"), e.Retryable)
	dst = wire.AppendBool(wire.AppendStr(dst, "retryable"), e.Retryable)
	if e.RetryAfter > 0 {
		dst = wire.AppendInt(wire.AppendStr(dst, "retry_after"), e.RetryAfter.Milliseconds())
		dst = wire.AppendInt(wire.AppendStr(dst, "retry_after_ms"), e.RetryAfter.Milliseconds())
	}
	return dst
}

// ReplyError reads from a reply body whether it is a failure, and the values of its headers.
func ReplyError(body []byte) (number int, text string, failed bool) {
	e, failed := ErrorOf(body)
	if !failed {
		return 0, "", false
	}
	return e.Number(), oneLine(e.Message, 256), true
}

// ErrorOf reads category, code and message of the error in a reply body, if it is a failure.
func ErrorOf(body []byte) (e Error, failed bool) {
	in := wire.NewReader(body)
	n, err := in.Map()
	if err != nil {
		return e, false
	}
	for range n {
		key, err := in.Str()
		if err != nil {
			return e, false
		}
		if key == "error" {
			return errorIn(in)
		}
		if in.Skip() != nil {
			return e, false
		}
	}
	return e, false
}

func errorIn(in *wire.Reader) (e Error, failed bool) {
	fields, _ := in.Map()
	for range fields {
		name, _ := in.Str()
		if in.Kind() != wire.Str {
			if in.Skip() != nil {
				return e, false
			}
			continue
		}
		v, _ := in.Str()
		switch name {
		case "error_category":
			e.Category = Category(v)
		case "code":
			e.Code = v
		case "message":
			e.Message = v
		}
	}
	return e, true
}

// Answer is a reply on the wire: headers, and the body in the requested form. A value that has no JSON form
// stays MessagePack, and its header reports it.
func Answer(contentType, job string, attempt int, body []byte) (header map[string][]string, data []byte) {
	header = map[string][]string{HeaderJob: {job}, HeaderAttempt: {strconv.Itoa(attempt)}, HeaderContentType: {contentType}}
	if number, text, failed := ReplyError(body); failed {
		header[HeaderError] = []string{text}
		header[HeaderErrorCode] = []string{strconv.Itoa(number)}
	}
	if contentType == JSON {
		text, err := wire.AppendJSON(nil, body)
		if err == nil {
			return header, text
		}
		header[HeaderContentType] = []string{MsgPack}
	}
	return header, body
}
