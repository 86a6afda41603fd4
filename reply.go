package dspex

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// SessionState says what the worker that ran a job knew of its session.
type SessionState string

// The states of a session in a reply.
const (
	Warm     SessionState = "warm"     // the worker held it in memory
	Restored SessionState = "restored" // it was read from the stored record
	None     SessionState = "none"     // nothing was known of the session
	Reset    SessionState = "reset"    // it is known to be lost
)

// Session tells where a job of a session ran.
type Session struct {
	ID     string       `json:"id"`
	Host   string       `json:"host"`
	Worker string       `json:"worker"`
	State  SessionState `json:"state"`
}

// Place tells where an anonymous job ran.
type Place struct {
	Host   string `json:"host"`
	Worker string `json:"worker"`
}

// Reply is the answer of a job that succeeded.
type Reply struct {
	Job     string
	Attempt int             // 1 is the first
	Result  json.RawMessage // of predict: a map of the outputs
	Session *Session        // nil for an anonymous job
	RanOn   *Place          // of an anonymous job
	Engine  string          // such as "dspy 3.4.1"
	Queued  time.Duration   // from acceptance to the start of the last attempt
	Run     time.Duration   // the last attempt
	Usage   map[string]any  // of the language models, by model
	Raw     json.RawMessage // the whole body as received
}

// Decode reads the result into v, as json.Unmarshal does.
func (r Reply) Decode(v any) error { return json.Unmarshal(r.Result, v) }

// Outputs is the result as a map; nil if it is something else.
func (r Reply) Outputs() map[string]any {
	var outputs map[string]any
	if r.Decode(&outputs) != nil {
		return nil
	}
	return outputs
}

// wireReply is the body of a reply.
type wireReply struct {
	OK      *bool           `json:"ok"`
	Result  json.RawMessage `json:"result"`
	Error   *wireError      `json:"error"`
	Job     string          `json:"job"`
	Attempt int             `json:"attempt"`
	Session *Session        `json:"session"`
	RanOn   *Place          `json:"ran_on"`
	Engine  string          `json:"engine"`
	Timing  struct {
		QueuedMS float64 `json:"queued_ms"`
		RunMS    float64 `json:"run_ms"`
	} `json:"timing"`
	Usage map[string]any `json:"usage"`
}

// parseReply reads a body; the error of a failed job is an *Error, and the reply then still tells where it ran.
func parseReply(body []byte) (Reply, error) {
	var w wireReply
	if err := json.Unmarshal(body, &w); err != nil {
		return Reply{}, badReply("the reply is not the expected JSON: %v", err)
	}
	r := Reply{
		Job: w.Job, Attempt: w.Attempt, Result: w.Result, Session: w.Session, RanOn: w.RanOn, Engine: w.Engine, Usage: w.Usage,
		Queued: time.Duration(w.Timing.QueuedMS * float64(time.Millisecond)), Run: time.Duration(w.Timing.RunMS * float64(time.Millisecond)), Raw: body,
	}
	switch {
	case w.OK == nil:
		return Reply{}, badReply(`the reply has no "ok"`)
	case *w.OK:
		return r, nil
	case w.Error == nil:
		return r, badReply("the reply says that the job failed, but not why")
	}
	return r, w.Error.error(w.Job, w.Attempt)
}

// readReply also understands a service error without body, as NATS micro services send it.
func readReply(m *nats.Msg) (Reply, error) {
	if text := m.Header.Get("Nats-Service-Error"); text != "" && len(m.Data) == 0 {
		return Reply{}, &Error{Category: ErrSystem, Code: "service_error_" + m.Header.Get("Nats-Service-Error-Code"), Message: text}
	}
	return parseReply(m.Data)
}

func headerInt(m *nats.Msg, name string) int {
	n, _ := strconv.Atoi(m.Header.Get(name))
	return n
}
