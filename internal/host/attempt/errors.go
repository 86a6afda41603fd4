package attempt

import (
	"time"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

// codeUserError is Python's code for what the operator's own code raised.
const codeUserError = "user_error"

// errorFrame reads Python's report of a failure, of the use that the call made of its language model, and of its spans.
func errorFrame(body []byte, worker string) (e *jobs.Error, called use, spans []byte) {
	f, err := frame.ParseError(body)
	if err != nil || !jobs.Category(f.Category).Known() {
		return jobs.Errorf(jobs.Communication, jobs.CodeBadFrame, "the worker's error cannot be read").Again(), unreported, nil
	}
	if f.Code == jobs.CodeCancelled || f.Code == jobs.CodeExpired { // these decide about a job's outcome, and only the host does that
		f.Code = codeUserError
	}
	e = &jobs.Error{Category: jobs.Category(f.Category), Code: f.Code, Message: f.Message, Worker: worker}
	in := wire.NewReader(f.Detail)
	n, _ := in.Map()
	for range n {
		key, _ := in.Str()
		switch kind := in.Kind(); {
		case key == "retryable" && kind == wire.Bool:
			e.Retryable, _ = in.Bool()
		case key == "lm_called" && kind == wire.Bool:
			class, _ := in.Bool()
			called = useOf(class)
		case key == "spans" && kind == wire.Array:
			spans, _ = in.Raw()
		case key == "lm" && kind == wire.Map:
			e.OtherLM = foreign(in)
		case key == "retry_after_ms" && kind == wire.Int:
			ms, _ := in.Int()
			e.RetryAfter = min(time.Duration(max(ms, 0))*time.Millisecond, jobs.RetryAfterCap)
		case kind == wire.Str:
			v, _ := in.Str()
			switch key {
			case "hint":
				e.Hint = v
			case "expected":
				e.Expected = v
			case "path":
				e.Path = v
			case "python_type":
				e.PythonType = v
			case "traceback":
				e.Traceback = v
			}
		default:
			if in.Skip() != nil {
				return e, called, spans
			}
		}
	}
	return e, called, spans
}

// foreign reads whether the language model that failed is none of the host's profiles: its program made it.
func foreign(in *wire.Reader) (other bool) {
	n, _ := in.Map()
	for range n {
		key, _ := in.Str()
		if key == "of_profile" && in.Kind() == wire.Bool {
			of, _ := in.Bool()
			other = !of
		} else if in.Skip() != nil {
			return other
		}
	}
	return other
}
