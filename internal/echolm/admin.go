package echolm

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// shrink bounds what a prompt keeps in memory: of a large body only copies, the latest messages first.
func (p *Prompt) shrink(body int) {
	p.Model = clip(p.Model, 256)
	if len(p.Answer) > maxKept {
		p.Answer, p.Shortened = clip(p.Answer, maxKept), true
	}
	if body <= maxKept {
		return
	}
	const header = 32 // of one Message
	room, first := maxKept, len(p.Messages)
	for first > 0 && room > header+len(p.Messages[first-1].Content) {
		first--
		room -= header + len(p.Messages[first].Content)
	}
	if first == len(p.Messages) && first > 0 {
		first--
		p.Shortened = true
	}
	kept := make([]Message, 0, len(p.Messages)-first)
	for _, m := range p.Messages[first:] {
		kept = append(kept, Message{clip(m.Role, 64), clip(m.Content, maxKept)})
	}
	p.Messages, p.LeftOut = kept, first
}

// clip copies at most n bytes of s.
func clip(s string, n int) string {
	return strings.ToValidUTF8(strings.Clone(s[:min(n, len(s))]), "\ufffd")
}

// last returns up to n prompts, the newest first.
func (r *ring) last(n int) []Prompt {
	r.mu.Lock()
	defer r.mu.Unlock()
	n = min(n, r.added, ringSize)
	out := make([]Prompt, 0, n)
	for i := range n {
		out = append(out, r.items[(r.added-1-i)%ringSize])
	}
	return out
}

// Last returns up to n of the last 100 prompts, the newest first.
func (s *Server) Last(n int) []Prompt { return s.ring.last(max(0, n)) }

// isLocal refuses whoever does not come from this machine, and a browser that a foreign page has led here: such a page
// reaches loopback under a host name of its own.
func (s *Server) isLocal(w http.ResponseWriter, r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	name := r.Host
	if h, _, err := net.SplitHostPort(name); err == nil {
		name = h
	}
	if err == nil && isLoopback(host) && (name == "localhost" || isLoopback(strings.Trim(name, "[]"))) {
		return true
	}
	s.refuse(w, http.StatusForbidden, "loopback_only", "the request must come from this machine to a loopback address")
	return false
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// last serves GET /last[?n=N].
func (s *Server) last(w http.ResponseWriter, r *http.Request) {
	if !s.isLocal(w, r) || !s.allowed(w, r, http.MethodGet) {
		return
	}
	n := ringSize
	if q := r.URL.Query().Get("n"); q != "" {
		v, err := strconv.Atoi(q)
		if err != nil || v < 1 || v > ringSize {
			s.refuse(w, http.StatusBadRequest, "bad_request", "n must be a whole number from 1 to "+strconv.Itoa(ringSize))
			return
		}
		n = v
	}
	s.show(w, map[string]any{"prompts": s.ring.last(n)})
}

// control serves GET /control, and POST /control with {"script": "lat=200,status=429"}.
func (s *Server) control(w http.ResponseWriter, r *http.Request) {
	if !s.isLocal(w, r) {
		return
	}
	if r.Method != http.MethodGet {
		if !s.allowed(w, r, http.MethodPost) {
			return
		}
		if err := s.takeControl(w, r); err != nil {
			s.refuse(w, http.StatusBadRequest, "bad_control", err.Error())
			return
		}
	}
	s.show(w, map[string]any{"script": s.script.Load().text, "stats": s.Stats()})
}

// takeControl reads a control body. Its content type is checked because a page of another origin cannot send that one
// without a preflight request.
func (s *Server) takeControl(w http.ResponseWriter, r *http.Request) error {
	const expected = `expected content type application/json and a body like {"script": "lat=200,status=429"}`
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return errors.New(expected)
	}
	var body struct {
		Script *string `json:"script"`
	}
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxControl))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&body); err != nil {
		return errors.New(expected + ": " + err.Error())
	}
	if _, err := decoder.Token(); err != io.EOF || body.Script == nil {
		return errors.New(expected)
	}
	script, err := ParseScript(*body.Script)
	if err != nil {
		return err
	}
	return s.SetScript(script)
}

func (s *Server) show(w http.ResponseWriter, v any) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic(err) // the types above always marshal
	}
	setHeader(w, "Cache-Control", noStore)
	writeJSON(w, http.StatusOK, append(body, '\n'))
}
