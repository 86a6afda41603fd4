package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/contract"
)

// The paths of calls.
const (
	pathAnonymous = "/v1/jobs"
	pathSessions  = "/v1/sessions/"
	pathJobs      = "/jobs"
)

// shortcut serves the call that most requests are: a command and its arguments, valid, of which the client waits for the reply. All others, and
// those that are wrong in any way, are next's, which reports what is wrong: huma reads and checks each part of a request by reflection.
func (g *Gateway) shortcut(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, pattern := callOf(r)
		if pattern == "" {
			next.ServeHTTP(w, r)
			return
		}
		in, ok := simple(who(r.Context()).body)
		if !ok {
			next.ServeHTTP(w, r)
			return
		}
		r.Pattern = pattern
		in.Key = r.Header.Get("Idempotency-Key")
		a, err := g.run(r.Context(), session, "", in)
		if err != nil {
			p, _ := errors.AsType[*problem](err) // as every error of run
			p.write(w, traceID(r.Context()))
			return
		}
		h := w.Header()
		h["Content-Type"], h[contract.HeaderJob], h[contract.HeaderAttempt] = []string{a.Type}, []string{a.Job}, []string{a.Attempt}
		_, _ = w.Write(a.reply)
	})
}

// callOf returns the session and the pattern of a request whose path is one of a call, and that requests nothing but the reply.
func callOf(r *http.Request) (session, pattern string) {
	if r.Method != http.MethodPost || r.URL.RawQuery != "" || r.Header["Prefer"] != nil || accepts(r.Header.Get("Accept"), eventStream) {
		return "", ""
	}
	if r.URL.Path == pathAnonymous {
		return "", "POST " + pathAnonymous
	}
	rest, found := strings.CutPrefix(r.URL.Path, pathSessions)
	session, isCall := strings.CutSuffix(rest, pathJobs)
	if !found || !isCall || r.URL.RawPath != "" || !contract.ValidSession(session) {
		return "", ""
	}
	return session, "POST /v1/sessions/{session}/jobs"
}

// simple reads a body that has a command and arguments alone. The guard has read it as JSON without a key that stands twice.
func simple(body []byte) (*RunInput, bool) {
	in := &RunInput{}
	fits := contract.Members(body, func(key, value []byte) bool {
		switch string(key) {
		case "command":
			in.Body.Command = string(bytes.Trim(value, `"`))
			return value[0] == '"' && validCommand(in.Body.Command)
		case "args":
			in.Body.ready = dspex.Args{}
			return contract.Members(value, func(key, value []byte) bool {
				in.Body.ready[string(key)] = json.RawMessage(value)
				return string(key) != contract.ArgSession
			})
		}
		return false
	})
	return in, fits && in.Body.Command != ""
}

// validCommand reports whether the text fits the pattern of jobBody.
func validCommand(text string) bool {
	if text == "" || len(text) > 64 || text[0] < 'a' || text[0] > 'z' {
		return false
	}
	for _, c := range []byte(text) {
		if c != '_' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}
