package jobs

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/wire"
)

// Defaults and bounds of the options (contract/job.md).
const (
	DefaultTimeout  = contract.DefaultTimeout
	MaxTimeout      = contract.MaxTimeout
	CheckoutTimeout = contract.CheckoutTimeout
	QueueFullRetry  = contract.QueueFullRetry
)

// Request is a validated request body. Its bytes are canonical: what the client sent goes no further.
type Request struct {
	Command string
	Args    []byte     // MessagePack map
	Object  *ObjectRef // more of the arguments; nil: Args are all
	Options []byte     // MessagePack map, as the worker sees it
	Hash    [sha256.Size]byte

	Timeout      time.Duration
	Deadline     time.Duration // 0: none given
	Policy       Policy
	Stream       bool
	LM           string
	RequireState bool
}

// FitsIn refuses a request that is larger than maxBytes; 0 is no bound.
func FitsIn(size, maxBytes int) *Error {
	if maxBytes <= 0 || size <= maxBytes {
		return nil
	}
	e := Errorf(Session, CodeTooLarge, "the request has %d bytes", size).WithHint("upload large arguments and send args_object (contract/job.md, Large arguments); the Go client and `dspex` do so by themselves")
	e.Expected = fmt.Sprintf("at most %d bytes", maxBytes)
	return e
}

// BodyKeys are the keys of a request body, as errors name them.
const BodyKeys = "command, args, args_object, options"

// ParseRequest validates a body and re-encodes it. maxBytes bounds the body.
func ParseRequest(contentType string, body []byte, maxBytes int) (Request, *Error) {
	if e := FitsIn(len(body), maxBytes); e != nil {
		return Request{}, e
	}
	kind, e := ContentType(contentType)
	if e != nil {
		return Request{}, e
	}
	var canonical []byte
	var err error
	if kind == JSON {
		canonical, err = wire.FromJSON(body, wire.Request)
	} else {
		canonical, err = wire.Canonical(body, wire.Request)
	}
	if err != nil {
		return Request{}, Unreadable(err)
	}
	req := Request{Timeout: DefaultTimeout}
	if e := req.read(wire.NewReader(canonical)); e != nil {
		return Request{}, e
	}
	req.Hash = req.Object.hash(canonical)
	return req, nil
}

const bodyShape = `{"command": "...", "args": {...}, "options": {...}}`

var emptyMap = wire.AppendMap(nil, 0)

func (r *Request) read(in *wire.Reader) *Error {
	if in.Kind() != wire.Map {
		return Refused(CodeBadRequest, "", bodyShape, "the body is not a map")
	}
	n, err := in.Map()
	if err != nil {
		return Unreadable(err)
	}
	r.Args, r.Options = emptyMap, emptyMap
	for range n {
		key, _ := in.Str()
		switch key {
		case "command":
			if r.Command, err = in.Str(); err != nil || !validCommand(r.Command) {
				return Refused(CodeBadRequest, "command", "a name: [a-z][a-z0-9_]{0,63}", "the command is not a name")
			}
		case "args", "options":
			if in.Kind() != wire.Map {
				return Refused(CodeBadRequest, key, "a map", "%s is not a map", key)
			}
			raw, err := in.Raw()
			if err != nil {
				return Unreadable(err)
			}
			if key == "args" {
				r.Args = raw
			} else {
				r.Options = raw
			}
		case "args_object":
			var e *Error
			if r.Object, e = readObjectRef(in, key); e != nil {
				return e
			}
		default:
			return Refused(CodeBadRequest, Clip(key), BodyKeys, "unknown key in the body")
		}
	}
	if r.Command == "" {
		return Refused(CodeBadRequest, "command", bodyShape, "the body has no command")
	}
	if r.Object != nil && contract.InlineOnly(r.Command) {
		return Refused(CodeBadRequest, "args_object", "all arguments of "+r.Command+" in args", "%s takes no arguments by reference", r.Command)
	}
	if e := r.readOptions(wire.NewReader(r.Options)); e != nil {
		return e
	}
	return r.refuseSecrets()
}

// optionNames are all options, for the error that names them.
var optionNames = []string{"backoff", "backoff_cap", "deadline", "jitter", "lm", "max_retries", "module", "outputs", "require_state", "signature", "stream", "temperature", "timeout"}

func (r *Request) readOptions(in *wire.Reader) *Error {
	n, err := in.Map()
	if err != nil {
		return Unreadable(err)
	}
	for range n {
		key, _ := in.Str()
		if e := r.readOption(key, in); e != nil {
			return e
		}
	}
	return nil
}

func (r *Request) readOption(key string, in *wire.Reader) *Error {
	path := "options." + Clip(key)
	switch key {
	case "timeout", "deadline":
		d, ok := duration(in)
		if !ok || d < time.Millisecond || d > MaxTimeout {
			return Refused(CodeBadOption, path, `milliseconds as an integer, or text with a unit such as "30s"; 1 ms to 24 h`, "%s is not a duration in range", key)
		}
		if key == "timeout" {
			r.Timeout = d
		} else {
			r.Deadline = d
		}
	case "max_retries", "backoff", "backoff_cap", "jitter":
		return r.Policy.readOption(key, path, in)
	case "stream", "require_state":
		v, err := in.Bool()
		if err != nil {
			return Refused(CodeBadOption, path, "true or false", "%s is not a boolean", key)
		}
		if key == "stream" {
			r.Stream = v
		} else {
			r.RequireState = v
		}
	case "lm":
		v, err := in.Str()
		if err != nil || v == "" || len(v) > 128 {
			return Refused(CodeBadOption, path, "the name of an LM profile", "lm is not a name")
		}
		r.LM = v
	case "temperature":
		v, err := in.Float()
		if err != nil || math.IsNaN(v) || v < 0 || v > 2 {
			return Refused(CodeBadOption, path, "a number from 0 to 2", "temperature is out of range")
		}
	case "module":
		if v, err := in.Str(); err != nil || !slices.Contains([]string{"predict", "chain_of_thought", "react"}, v) {
			return Refused(CodeBadOption, path, "predict, chain_of_thought or react", "unknown module")
		}
	case "signature":
		if k := in.Kind(); k != wire.Str && k != wire.Map {
			return Refused(CodeBadOption, path, "text or a map", "the signature is neither text nor a map")
		}
		return skip(in)
	case "outputs":
		if in.Kind() != wire.Array {
			return Refused(CodeBadOption, path, "a list of names", "outputs is not a list")
		}
		return skip(in)
	default:
		return Refused(CodeBadOption, path, strings.Join(optionNames, ", "), "unknown option")
	}
	return nil
}

func skip(in *wire.Reader) *Error {
	if err := in.Skip(); err != nil {
		return Unreadable(err)
	}
	return nil
}

// modelless are the built-in commands that never call a language model; a user's own may.
var modelless = []string{"ping", "create_program", "list_programs", "get_program_info", "delete_program", "push_program", "withdraw_program", "get_stats", "reset_state",
	"cleanup_session", "erase_session", "import_session", "cleanup", "shutdown", "get_session_data", "update_session_data"}

// UsesLM reports whether a command may call a language model.
func UsesLM(command string) bool { return !slices.Contains(modelless, command) }

// CallsLM reports whether a built-in command always calls a language model.
func CallsLM(command string) bool { return command == "predict" || command == "execute_program" }

// Model is a language model that a job can use.
type Model struct {
	Key     string // changes whenever the profile does; "": none is configured
	Profile []byte // body of the LM frame
	Breaker string // name of its circuit breaker
	Chosen  bool   // a client named it, and no profile of the host has it
}

var setLMArgs = []string{"model", "provider", "api_key", "temperature", "max_tokens", "session_id"}

// refuseSecrets keeps API keys out of the stream: a key travels as a reference to the host's environment or files. Under a
// name that is unknown to set_lm one would be stored, too.
func (r *Request) refuseSecrets() *Error {
	if r.Command != "set_lm" && r.Command != "configure_lm" {
		return nil
	}
	in := wire.NewReader(r.Args)
	n, err := in.Map()
	if err != nil {
		return Unreadable(err)
	}
	for range n {
		key, _ := in.Str()
		if !slices.Contains(setLMArgs, key) {
			return Refused(CodeBadInput, "args."+Clip(key), strings.Join(setLMArgs, ", "), "%s: unknown argument", r.Command)
		}
		if key != "api_key" {
			if e := skip(in); e != nil {
				return e
			}
			continue
		}
		if in.Nil() {
			continue
		}
		v, err := in.Str()
		if err != nil || !(strings.HasPrefix(v, "env:") || strings.HasPrefix(v, "file:")) {
			e := Refused(CodeSecret, "args.api_key", "env:NAME or file:PATH", "the request contains an API key")
			return e.WithHint("put the key into the host's environment or a file of the host and send the reference; a key in a message would be stored by the broker")
		}
	}
	return nil
}

// Total is the default deadline of a call: all attempts, their delays and the wait for a slot.
func (r *Request) Total(checkout time.Duration) time.Duration {
	retries := 5 // the most that any category grants by itself
	if r.Policy.MaxRetries != nil {
		retries = *r.Policy.MaxRetries
	}
	total := time.Duration(retries+1)*r.Timeout + checkout
	for i := 1; i <= retries; i++ {
		total += r.Policy.Longest(i)
	}
	return min(total, MaxTimeout)
}

func validCommand(s string) bool {
	if s == "" || len(s) > 64 || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_') {
			return false
		}
	}
	return true
}

// Unreadable makes the error for a body that package wire refuses.
func Unreadable(err error) *Error {
	e := Errorf(Python, CodeBadRequest, "the body cannot be read: %v", err)
	if w, ok := errors.AsType[*wire.Error](err); ok {
		e.Path, e.Expected = w.Path, w.Expected
		e.Message = "the body cannot be read: " + strings.ReplaceAll(w.Problem, "_", " ")
		if w.Problem == wire.TooLarge {
			e.Category, e.Code = Session, CodeTooLarge
		}
	}
	return e
}
