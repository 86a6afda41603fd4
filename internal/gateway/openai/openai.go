// Package openai implements OpenAI's protocol in front of dspex: models, chat completions and responses. A model is a profile of a
// language model, or a program.
package openai

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/contract"
)

// Caller is the requester: a connection, and what its sessions and job ids begin with.
type Caller struct {
	Client *dspex.Client
	Prefix string
}

// Server answers the requests of OpenAI's clients.
type Server struct {
	Who    func(context.Context) Caller
	Left   func(context.Context, dspex.JobRef) // cancels the job of a client that went away
	Models func() []string                     // names of profiles that /v1/models shows
}

// Default is the model that stands for what the pool chooses: the session's, or the hosts' default profile.
const Default = "default"

// programs is what the names of models begin with that are programs.
const programs = "program:"

// others are what OpenAI's clients find below /v1 and is not served here.
var others = []string{"assistants", "audio", "completions", "containers", "conversations", "embeddings", "evals", "files", "fine_tuning", "images", "moderations", "realtime", "threads", "uploads",
	"vector_stores", "videos"}

// Serves reports whether a path is one of OpenAI's, so that what is refused there has OpenAI's form.
func Serves(path string) bool {
	rest, ok := strings.CutPrefix(path, "/v1/")
	first, _, _ := strings.Cut(rest, "/")
	return ok && (first == "models" || first == "chat" || first == "responses" || slices.Contains(others, first))
}

// NotServed adds to a refusal of such a path what is served.
func NotServed(text string) string {
	return text + ": models, chat/completions and responses are served"
}

// turn is an earlier question and its answer.
type turn struct{ question, answer string }

// prompt is what both endpoints request.
type prompt struct {
	model       string
	system      string
	history     []turn
	question    string
	temperature *float64
	stream      bool
	usage       bool // at the end of a stream
	session     string
}

// job names the job of a request. The same Idempotency-Key is the same job.
func jobOf(r *http.Request, c Caller, session string) dspex.JobRef {
	id := rand.Text()
	if key := r.Header.Get("Idempotency-Key"); key != "" {
		sum := sha256.Sum256([]byte(key))
		id = base32.StdEncoding.EncodeToString(sum[:])[:26]
	}
	return dspex.JobRef{Session: session, ID: c.Prefix + id}
}

// SessionHeader names the session of a request.
const SessionHeader = contract.HeaderSession

// sessionFor chooses the session: one that the request names in one of the ways, "" if it names none.
func sessionFor(r *http.Request, c Caller, named map[string]string, user string) (string, *failure) {
	session, by := r.Header.Get(SessionHeader), SessionHeader
	for param, name := range named {
		if name == "" {
			continue
		}
		if session != "" && session != name {
			return "", invalid(param, "conflicting_session", "%s and %s name different sessions: name one", by, param)
		}
		session, by = name, param
	}
	switch {
	case session == "" && user == "":
		return "", nil
	case session == "":
		return sessionOfUser(c, user), nil
	case !contract.ValidSession(session):
		return "", invalid(by, contract.CodeBadSession, "%s must be %s", by, contract.ExpectedSession)
	case !strings.HasPrefix(session, c.Prefix):
		return "", &failure{status: http.StatusForbidden, Type: "invalid_request_error", Param: by, Code: "session_denied", Message: "the token is for sessions whose name begins with " + c.Prefix}
	}
	return session, nil
}

// sessionOfUser is the session of a user. What is no name of a session becomes one by its hash.
func sessionOfUser(c Caller, user string) string {
	if contract.ValidSession(user) && strings.HasPrefix(user, c.Prefix) {
		return user
	}
	sum := sha256.Sum256([]byte(user))
	return c.Prefix + "user-" + base32.StdEncoding.EncodeToString(sum[:])[:26]
}

// readBody decodes a body whose keys must be known. null is what is left out.
func readBody(r *http.Request, known map[string]bool, into any) *failure {
	text, err := io.ReadAll(r.Body) // bounded before
	if err != nil {
		return invalid("", contract.CodeBadRequest, "the body did not come whole")
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(text, &keys); err != nil {
		return invalid("", contract.CodeBadRequest, "the body must be a JSON object")
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if known[key] {
			continue
		}
		if value := compact(keys[key]); value != "null" && (value != neutral[key] || value == "") {
			return invalid(key, "unsupported_parameter", "%s is not supported here with this value: leave it out", key)
		}
		delete(keys, key)
	}
	if text, err = json.Marshal(keys); err != nil {
		return invalid("", contract.CodeBadRequest, "the body must be a JSON object")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return invalid("", contract.CodeBadRequest, "the body is not of the expected form: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

func compact(value json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, value) != nil {
		return ""
	}
	return b.String()
}

// neutral are parameters that change nothing with these values, and are refused with others.
var neutral = map[string]string{
	"n": "1", "top_p": "1", "presence_penalty": "0", "frequency_penalty": "0", "logprobs": "false", "tools": "[]", "parallel_tool_calls": "true", "background": "false",
	"truncation": `"disabled"`, "service_tier": `"auto"`, "include": "[]", "response_format": `{"type":"text"}`, "text": `{"format":{"type":"text"}}`,
}

func keys(names ...string) map[string]bool {
	known := map[string]bool{}
	for _, n := range names {
		known[n] = true
	}
	return known
}

func now() int64 { return time.Now().Unix() }
