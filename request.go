package dspex

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/contract"
)

// Args are the arguments of a command. Values are what encoding/json can write.
type Args = map[string]any

// request is a job before it is sent.
type request struct {
	command string
	options map[string]any
	job     JobRef
	idGiven bool // an empty id is refused, not left out
	replyTo string

	traceparent string
	timeout     time.Duration
	deadline    time.Duration
	retries     *int
	backoff     *Backoff
	delayCap    time.Duration // 0: the default
	jitter      float64
	args        Args
	body        []byte
	err         error
}

// fail keeps the first problem.
func (r *request) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func newCall(session, command string, args Args, opts []CallOption) (*request, error) {
	return newRequest(session, command, args, func(r *request) {
		for _, o := range opts {
			o.applyCall(r)
		}
	})
}

func newSubmit(session, command string, args Args, opts []SubmitOption) (*request, error) {
	return newRequest(session, command, args, func(r *request) {
		for _, o := range opts {
			o.applySubmit(r)
		}
	})
}

// newRequest applies the options and encodes the body.
func newRequest(session, command string, args Args, apply func(*request)) (*request, error) {
	r := &request{command: command, options: map[string]any{}, timeout: contract.DefaultTimeout, job: JobRef{Session: session}}
	apply(r)
	r.setBackoff()
	if r.idGiven && !contract.ValidJob(r.job.ID) {
		r.fail(invalid(CodeBadJob, "", contract.ExpectedJob, "the job id is not valid"))
	}
	if r.err != nil {
		return nil, r.err
	}
	return r, r.encode(args)
}

// encode makes the body. Its error is an *Error.
func (r *request) encode(args Args) error {
	r.args = args
	if key := args["api_key"]; key != nil && (r.command == "set_lm" || r.command == "configure_lm") {
		if text, _ := key.(string); !strings.HasPrefix(text, "env:") && !strings.HasPrefix(text, "file:") {
			e := invalid(CodeSecret, "args.api_key", "env:NAME or file:PATH", "the request contains an API key")
			e.Hint = "put the key into the environment or a file of the worker-host and send the reference"
			return e
		}
	}
	body := map[string]any{"command": r.command}
	if len(args) > 0 {
		body["args"] = args
	}
	if len(r.options) > 0 {
		body["options"] = r.options
	}
	err := checkText(body, "")
	if err == nil {
		r.body, err = json.Marshal(body)
	}
	if err != nil {
		e := invalid(CodeBadRequest, "", "", "the request has no JSON form: %v", err)
		e.cause = fmt.Errorf("%w: %w", ErrInvalid, err)
		return e
	}
	return nil
}

// checkText refuses text that encoding/json would silently repair.
func checkText(v any, path string) error {
	switch v := v.(type) {
	case string:
		if !utf8.ValidString(v) {
			return fmt.Errorf("%s must be valid UTF-8", strings.TrimPrefix(path, "."))
		}
	case map[string]any:
		for key, value := range v {
			if !utf8.ValidString(key) {
				return fmt.Errorf("a key of %s must be valid UTF-8", strings.TrimPrefix(path, "."))
			}
			if err := checkText(value, path+"."+key); err != nil {
				return err
			}
		}
	case []any:
		for i, value := range v {
			if err := checkText(value, path+"["+strconv.Itoa(i)+"]"); err != nil {
				return err
			}
		}
	case []string:
		for i, value := range v {
			if err := checkText(value, path+"["+strconv.Itoa(i)+"]"); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *request) message(subject string) *nats.Msg {
	m := nats.NewMsg(subject)
	m.Data = r.body
	m.Header.Set(contract.HeaderContentType, contract.JSON)
	if r.traceparent != "" {
		m.Header.Set(contract.HeaderTraceparent, r.traceparent)
	}
	if r.job.ID != "" {
		m.Header.Set(contract.HeaderJob, r.job.ID)
	}
	return m
}

// callMessage is the message of a call. If ctx ends before the job would have given up by itself, the job gets that time as its
// deadline. It goes into a header, because the body decides whether two jobs of one id are the same.
func (r *request) callMessage(ctx context.Context, subject string) *nats.Msg {
	m := r.message(subject)
	if end, ok := ctx.Deadline(); ok && r.deadline == 0 {
		if left := time.Until(end); left < r.total() {
			m.Header.Set(contract.HeaderDeadline, strconv.FormatInt(max(milliseconds(left), 1), 10))
		}
	}
	return m
}

// travelTime is what the way there and back may take on top of what a job may take.
const travelTime = 5 * time.Second

// bounded gives a context without deadline one.
func bounded(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d)
}

func sessionSubject(prefix, session string) (string, error) {
	if !contract.ValidSession(session) {
		return "", invalid(CodeBadSession, "", contract.ExpectedSession, "the session id is not valid")
	}
	return prefix + session, nil
}

// anonymously is where a call without a session goes: to the session that its arguments name, if its command takes one.
func anonymously(anonymous, sessions, command string, args Args) (subject, session string, err error) {
	id, _ := args[contract.ArgSession].(string)
	if id == "" || !contract.TakesSession(command) {
		return anonymous, "", nil
	}
	subject, err = sessionSubject(sessions, id)
	return subject, id, err
}
