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
)

// Args are the arguments of a command. Values are what encoding/json can write.
type Args = map[string]any

// Headers and subjects of the wire.
const (
	headerJob      = "Dspex-Job"
	headerDeadline = "Dspex-Deadline"
	headerReplyTo  = "Dspex-Reply-To"
	headerAttempt  = "Dspex-Attempt"
	headerPartial  = "Dspex-Partial"
	contentType    = "Content-Type"
	contentJSON    = "application/json"

	doorSession      = "dspex.rpc.session."
	doorAnonymous    = "dspex.rpc.anonymous"
	subjectSession   = "dspex.session."
	subjectAnonymous = "dspex.anonymous."
	doorJobs         = "dspex.rpc.jobs.get"
	doorCancel       = "dspex.rpc.jobs.cancel"
	doorHealth       = "dspex.rpc.health.check"
	doorStats        = "dspex.rpc.stats.get"
)

// request is a job before it is sent.
type request struct {
	command  string
	options  map[string]any
	job      string
	jobGiven bool // an empty id is refused, not left out
	replyTo  string
	timeout  time.Duration
	deadline time.Duration
	retries  *int
	backoff  *Backoff
	delayCap time.Duration // 0: the default
	jitter   float64
	body     []byte
	err      error
}

// fail keeps the first problem.
func (r *request) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func newRequest(command string, args Args, opts []Option, more ...Option) (*request, error) {
	r := &request{command: command, options: map[string]any{}, timeout: defaultTimeout}
	for _, option := range append(more, opts...) {
		option(r)
	}
	r.setBackoff()
	if r.jobGiven && !validJob(r.job) {
		r.fail(&Error{Category: ErrPython, Code: CodeBadJob, Message: "the job id is not valid", Expected: "[A-Za-z0-9_-]{1,48}, not of the forms q<digits> or ...-r<digits>"})
	}
	if r.err != nil {
		return nil, r.err
	}
	return r, r.encode(args)
}

func (r *request) encode(args Args) error {
	if key := args["api_key"]; key != nil && (r.command == "set_lm" || r.command == "configure_lm") {
		if text, _ := key.(string); !strings.HasPrefix(text, "env:") && !strings.HasPrefix(text, "file:") {
			return &Error{Category: ErrPython, Code: CodeSecret, Message: "an API key stands in the request", Path: "args.api_key", Expected: "env:NAME or file:PATH",
				Hint: "put the key into the environment or a file of the worker-host and send the reference"}
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
		return &Error{Category: ErrPython, Code: CodeBadRequest, Message: "the request has no JSON form: " + err.Error(), cause: err}
	}
	return nil
}

// checkText refuses text that encoding/json would silently repair.
func checkText(v any, path string) error {
	switch v := v.(type) {
	case string:
		if !utf8.ValidString(v) {
			return fmt.Errorf("%s is not valid UTF-8", strings.TrimPrefix(path, "."))
		}
	case map[string]any:
		for key, value := range v {
			if !utf8.ValidString(key) {
				return fmt.Errorf("a key of %s is not valid UTF-8", strings.TrimPrefix(path, "."))
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
	m.Header.Set(contentType, contentJSON)
	if r.job != "" {
		m.Header.Set(headerJob, r.job)
	}
	return m
}

// callMessage is the message of a call that is given up when ctx ends. The job is told so, unless it would have given up
// earlier or has a deadline of its own: nobody would hear its answer. It goes into the header because the body decides
// whether two jobs of one id are the same.
func (r *request) callMessage(ctx context.Context, subject string) *nats.Msg {
	m := r.message(subject)
	if end, ok := ctx.Deadline(); ok && r.deadline == 0 {
		if left := time.Until(end); left < r.total() {
			m.Header.Set(headerDeadline, strconv.FormatInt(max(milliseconds(left), 1), 10))
		}
	}
	return m
}

// settling is what the way there and back may take on top of what a job may take.
const settling = 5 * time.Second

// bounded gives a context without deadline one.
func bounded(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d)
}

func sessionSubject(prefix, session string) (string, error) {
	if !validToken(session, 64) {
		return "", &Error{Category: ErrSession, Code: CodeBadSession, Message: "the session id is not valid", Expected: "[A-Za-z0-9_-]{1,64}"}
	}
	return prefix + session, nil
}

func validToken(s string, most int) bool {
	if s == "" || len(s) > most {
		return false
	}
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}

func validJob(id string) bool {
	if !validToken(id, 48) || id[0] == 'q' && digits(id[1:]) {
		return false
	}
	i := strings.LastIndex(id, "-r")
	return i < 0 || !digits(id[i+2:])
}

func digits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
