package gateway

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"strings"

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
		maps.Copy(w.Header(), http.Header{"Content-Type": {a.Type}, contract.HeaderJob: {a.Job}, "Dspex-Attempt": {a.Attempt}})
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

// simple reads a body that has a command and arguments alone.
func simple(body []byte) (*RunInput, bool) {
	var parts map[string]json.RawMessage
	if len(body) == 0 || json.Unmarshal(body, &parts) != nil {
		return nil, false
	}
	in, args := &RunInput{}, parts["args"]
	if json.Unmarshal(parts["command"], &in.Body.Command) != nil || !validCommand(in.Body.Command) {
		return nil, false
	}
	switch {
	case len(parts) == 1:
		return in, true
	case len(parts) == 2 && len(args) > 0 && args[0] == '{':
		return in, json.Unmarshal(args, &in.Body.Args) == nil
	}
	return nil, false
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
