package jobs

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/wire"
)

// DeadReplayed begins the subjects of the notes that a dead letter was replayed; SessionRef makes the subjects of dead letters.
const DeadReplayed = contract.DeadReplayed

// Headers that only dead letters have.
const (
	HeaderSession  = contract.HeaderSession
	HeaderTenant   = contract.HeaderTenant
	HeaderLane     = contract.HeaderLane
	HeaderCommand  = contract.HeaderCommand
	HeaderSequence = contract.HeaderSequence
	HeaderStored   = contract.HeaderStored
	HeaderReason   = contract.HeaderReason
	HeaderFailure  = contract.HeaderFailure
	headerMsgID    = "Nats-Msg-Id"
)

// DeadLetter is a dead-lettered job without its request, which is the body of the message.
type DeadLetter struct {
	Session  SessionRef // without an id for an anonymous job
	Invalid  bool       // Session is no session's id: the job could not be judged
	Lane     string     // of an anonymous job
	Job      string
	Command  string // "" if the request cannot be read
	Sequence uint64 // of the job, in its stream
	Stored   time.Time
	Mode     Mode
	Type     string        // content type of the request
	Deadline time.Duration // of the header, 0: none
	Attempts int
	Reason   []byte // why it failed: the error of its reply, JSON
	Failures []Failure
}

// Subject is where the dead letter is published.
func (d *DeadLetter) Subject() string {
	if d.Invalid {
		return d.Session.InvalidSubject()
	}
	return d.Session.DeadSubject()
}

// ID is the same for two writes of one dead letter, so that one is stored. Ids of anonymous and of invalid jobs begin as no session id can.
func (d *DeadLetter) ID() string {
	scope := d.Session.String()
	if d.Invalid {
		scope = "!"
	}
	return scope + "." + strconv.FormatUint(d.Sequence, 10)
}

// Header writes the dead letter. The parts of it that can be long have at most a quarter of most together.
func (d *DeadLetter) Header(most int) map[string][]string {
	h := map[string][]string{
		headerMsgID: {d.ID()}, HeaderJob: {d.Job}, HeaderMode: {string(d.Mode)}, HeaderContentType: {d.Type},
		HeaderSequence: {strconv.FormatUint(d.Sequence, 10)}, HeaderStored: {d.Stored.UTC().Format(time.RFC3339Nano)},
		HeaderAttempt: {strconv.Itoa(d.Attempts)}, HeaderReason: {string(d.Reason)},
	}
	for name, text := range map[string]string{HeaderSession: d.Session.ID, HeaderTenant: d.tenant(), HeaderLane: d.Lane, HeaderCommand: d.Command} {
		if text != "" {
			h[name] = []string{text}
		}
	}
	if d.Deadline > 0 {
		h[HeaderDeadline] = []string{strconv.FormatInt(d.Deadline.Milliseconds(), 10)}
	}
	if len(d.Reason) > most/8 {
		h[HeaderReason] = []string{string(shortReason(d.Reason))}
	}
	for _, f := range BoundHistory(d.Failures, most/16) {
		h[HeaderFailure] = append(h[HeaderFailure], string(plainJSON(spellFailure(f))))
	}
	return h
}

// tenant is the tenant in the headers of a dead letter.
func (d *DeadLetter) tenant() string {
	if d.Session.Tenant == DefaultTenant {
		return ""
	}
	return d.Session.Tenant
}

// wireFailure is a failure as dead letters and replies have it.
type wireFailure struct {
	Attempt    int      `json:"attempt"`
	Category   Category `json:"error_category"`
	Code       string   `json:"code"`
	Message    string   `json:"message"`
	Worker     string   `json:"worker,omitempty"`
	PythonType string   `json:"python_type,omitempty"`
	At         string   `json:"at,omitempty"` // RFC 3339
}

func spellFailure(f Failure) wireFailure {
	w := wireFailure{f.Attempt, f.Category, f.Code, f.Message, f.Worker, f.PythonType, ""}
	if !f.At.IsZero() {
		w.At = f.At.UTC().Format(time.RFC3339Nano)
	}
	return w
}

func (w wireFailure) failure() (f Failure, err error) {
	f = Failure{w.Attempt, w.Category, w.Code, w.Message, w.Worker, w.PythonType, time.Time{}}
	if w.At != "" {
		f.At, err = time.Parse(time.RFC3339Nano, w.At)
	}
	return f, err
}

// ParseDeadLetter reads the headers of a dead letter.
func ParseDeadLetter(subject string, h map[string][]string) (*DeadLetter, error) {
	d := &DeadLetter{Session: SessionRef{cmp.Or(one(h, HeaderTenant), DefaultTenant), one(h, HeaderSession)}, Lane: one(h, HeaderLane), Job: one(h, HeaderJob),
		Command: one(h, HeaderCommand), Mode: Mode(one(h, HeaderMode)), Type: one(h, HeaderContentType), Reason: []byte(one(h, HeaderReason))}
	d.Invalid = subject == d.Session.InvalidSubject()
	var errs [5]error
	if subject != d.Subject() {
		errs[4] = fmt.Errorf("its headers are those of a dead letter on %s", Clip(d.Subject()))
	}
	d.Sequence, errs[0] = strconv.ParseUint(one(h, HeaderSequence), 10, 64)
	d.Stored, errs[1] = time.Parse(time.RFC3339Nano, one(h, HeaderStored))
	d.Attempts, errs[2] = strconv.Atoi(one(h, HeaderAttempt))
	if text := one(h, HeaderDeadline); text != "" {
		var ms int64
		ms, errs[3] = strconv.ParseInt(text, 10, 64)
		d.Deadline = time.Duration(ms) * time.Millisecond
	}
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("dead letter: %w", err)
	}
	for _, text := range h[HeaderFailure] {
		var w wireFailure
		err := json.Unmarshal([]byte(text), &w)
		f, at := w.failure()
		if err = errors.Join(err, at); err != nil {
			return nil, fmt.Errorf("dead letter: failure: %w", err)
		}
		d.Failures = append(d.Failures, f)
	}
	return d, nil
}

// Failed is the error of a dead letter in short.
func (d *DeadLetter) Failed() (c Category, code, message string) {
	var r wireFailure
	_ = json.Unmarshal(d.Reason, &r) // a dead letter without a reason is listed without one
	return r.Category, r.Code, r.Message
}

// ReplyReason is the error of a reply body, as JSON.
func ReplyReason(body []byte) []byte {
	in := wire.NewReader(body)
	n, _ := in.Map()
	for range n {
		key, err := in.Str()
		if err != nil {
			return nil
		}
		raw, err := in.Raw()
		if err != nil {
			return nil
		}
		if key == "error" {
			text, _ := wire.AppendJSON(nil, raw) // text and numbers always have a form
			return text
		}
	}
	return nil
}

// shortReason is a reason without the parts that may be long.
func shortReason(reason []byte) []byte {
	var r wireFailure
	if err := json.Unmarshal(reason, &r); err != nil {
		return nil
	}
	r.Message = cut(oneLine(r.Message, historyMessage), historyMessage)
	return plainJSON(r)
}

// plainJSON is JSON on one line, with no more escapes than it needs: a header has a bound.
func plainJSON(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // text and numbers always encode
	}
	return bytes.TrimSpace(b.Bytes())
}
