package echolm

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// endpoint is one of the three APIs.
type endpoint struct {
	name  string
	parse func(*node) (conversation, error)
	wire  wire
}

var endpoints = map[string]endpoint{
	"/chat/completions": {"chat", parseChat, chatWire{}},
	"/responses":        {"responses", parseResponses, responsesWire{}},
	"/completions":      {"completions", parseCompletion, completionWire{}},
}

// ServeHTTP answers [/s/SCRIPT][/v1]/{chat/completions,responses,completions,models}, and on loopback /control and /last.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	setHeader(w, "X-Dspex-Echo", echoHeader)
	segment, path, inPath := splitPath(r.URL.Path)
	if e, ok := endpoints[path]; ok {
		if s.allowed(w, r, http.MethodPost) {
			s.serve(w, r, e, segment, inPath)
		}
		return
	}
	switch {
	case path == "/models" || path == "/models/echo":
		if !s.allowed(w, r, http.MethodGet) {
			return
		}
		if _, err := ParseScript(segment); err != nil {
			s.refuse(w, http.StatusBadRequest, "invalid_script", err.Error())
			return
		}
		s.models(w, path)
	case inPath:
		s.refuse(w, http.StatusNotFound, "not_found", "no such path: expected /s/SCRIPT/v1/chat/completions, /responses, /completions or /models")
	case path == "/control":
		s.control(w, r)
	case path == "/last":
		s.last(w, r)
	default:
		s.refuse(w, http.StatusNotFound, "not_found", "no such path: expected /v1/chat/completions, /v1/responses, /v1/completions, /v1/models, /control or /last")
	}
}

// splitPath takes the script's segment and /v1 off a path.
func splitPath(path string) (segment, rest string, inPath bool) {
	if after, ok := strings.CutPrefix(path, "/s/"); ok {
		inPath = true
		end := strings.IndexByte(after, '/')
		if end < 0 {
			end = len(after)
		}
		segment, path = after[:end], after[end:]
	}
	return segment, strings.TrimPrefix(path, "/v1"), inPath
}

func (s *Server) allowed(w http.ResponseWriter, r *http.Request, method string) bool {
	if r.Method == method {
		return true
	}
	w.Header().Set("Allow", method)
	s.refuse(w, http.StatusMethodNotAllowed, "method_not_allowed", "expected method "+method)
	return false
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request, e endpoint, segment string, inPath bool) {
	s.begin()
	defer s.end()
	body, ok := s.body(w, r)
	if !ok {
		return
	}
	n, err := parseBody(body)
	var c conversation
	if err == nil {
		c, err = e.parse(n)
	}
	var a answer
	if err == nil {
		c.outputs = s.config.Outputs
		a, err = reply(&c)
	}
	if err != nil {
		s.refuse(w, http.StatusBadRequest, "invalid_request", err.Error())
		return
	}
	script, err := s.scriptOf(segment, inPath)
	if err != nil {
		s.refuse(w, http.StatusBadRequest, "invalid_script", err.Error())
		return
	}
	x := exchange{server: s, w: w, r: r, wire: e.wire, c: &c, a: a, script: script}
	x.number = s.counts.requests.Add(1)
	s.note(&x, e.name, len(body))
	x.run()
}

// note passes a request to the ring and OnRequest.
func (s *Server) note(x *exchange, endpoint string, size int) {
	s.ring.add(Prompt{
		Number: x.number, Time: time.Now(), Endpoint: endpoint, Model: x.c.model, Turn: x.a.turn, Stream: x.c.stream,
		Script: x.script.String(), Messages: x.c.messages, Answer: x.a.content, ToolCall: x.a.call,
	}, size)
	if s.config.OnRequest == nil {
		return
	}
	key, _ := strings.CutPrefix(x.r.Header.Get("Authorization"), "Bearer ")
	s.config.OnRequest(Request{
		Number: x.number, Endpoint: endpoint, Model: x.c.model, Stream: x.c.stream, Turn: x.a.turn,
		Messages: x.c.messages, Script: x.script, Key: key,
	})
}

// body reads the whole request body. A deadline for it is set and taken away again: the server's ReadTimeout would also
// end the requests that wait out a long latency.
func (s *Server) body(w http.ResponseWriter, r *http.Request) (string, bool) {
	control := http.NewResponseController(w)
	// Not every ResponseWriter has deadlines (a test's recorder); a socket has.
	_ = control.SetReadDeadline(time.Now().Add(bodyTimeout))
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	b, err := readAll((*buffer)[:0], http.MaxBytesReader(w, r.Body, maxBody))
	*buffer = b[:0]
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		s.refuse(w, http.StatusRequestEntityTooLarge, "too_large", "the body has more than "+strconv.Itoa(maxBody)+" bytes")
		return "", false
	}
	if err != nil {
		s.counts.left.Add(1)
		panic(http.ErrAbortHandler) // with the deadline in force: net/http still tries to read the rest
	}
	_ = control.SetReadDeadline(time.Time{})
	return string(b), true
}

// readAll is io.ReadAll into a buffer that is there already.
func readAll(b []byte, r io.Reader) ([]byte, error) {
	for {
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return b, err
		}
		if len(b) == cap(b) {
			b = slices.Grow(b, len(b))
		}
	}
}

func (s *Server) models(w http.ResponseWriter, path string) {
	const model = `{"id":"echo","object":"model","created":0,"owned_by":"dspex"}`
	if path == "/models" {
		writeJSON(w, http.StatusOK, []byte(`{"object":"list","data":[`+model+`]}`))
		return
	}
	writeJSON(w, http.StatusOK, []byte(model))
}

// refuse answers a request that is wrong, in the form of OpenAI's errors.
func (s *Server) refuse(w http.ResponseWriter, status int, code, message string) {
	s.counts.refused.Add(1)
	writeJSON(w, status, errorBody("invalid_request_error", code, message))
}
