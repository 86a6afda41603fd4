package echolm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of the server.
const (
	maxBody       = 8 << 20
	maxHeader     = 64 << 10
	headerTimeout = 10 * time.Second
	bodyTimeout   = 60 * time.Second
	writeTimeout  = 30 * time.Second // of one write to a client that does not read
	idleTimeout   = 10 * time.Minute // clients keep pools of idle connections
	stopGrace     = 2 * time.Second  // for answers under way when Run ends
	maxCounted    = 10_000           // different scripts with times
)

// Config is how to make a Server; the zero value is a healthy echo on a free port of 127.0.0.1.
type Config struct {
	Addr   string       // to listen on, "127.0.0.1:0" if empty; beyond loopback everyone there can send requests, nobody can control
	Script Script       // for requests without a script of their own in the path
	Log    *slog.Logger // nil: silent; it never gets prompts or keys
	// OnRequest is called with every request with a valid body, before its latency, on the request's goroutine, from
	// many at once.
	OnRequest func(Request)
	// Outputs gives the outputs of a DSPy prompt with these inputs, by their names; the echo makes up those that it leaves out. It is
	// called like OnRequest. nil: it makes up all.
	Outputs func(inputs map[string]string) map[string]any
}

// Request is what OnRequest is called with.
type Request struct {
	Number   uint64 // 1 for the first request of the server
	Endpoint string // "chat", "responses" or "completions"
	Model    string // as the client named it
	Stream   bool
	Turn     int // of the conversation, from 1
	Messages []Message
	Script   Script // that the request runs under
	Key      string // of the Authorization header; for tests of credentials, never to be logged
}

// Stats are counts since New.
type Stats struct {
	Requests uint64 `json:"requests"`  // with a valid body
	Answered uint64 `json:"answered"`  // answers written whole
	Faults   uint64 `json:"faults"`    // scripted errors, cuts and bad bodies
	Refused  uint64 `json:"refused"`   // bad requests
	Left     uint64 `json:"left"`      // clients that closed before the end of their answer
	InFlight int64  `json:"in_flight"` // being answered
	Peak     int64  `json:"peak"`      // highest InFlight
}

// Server is an echo model that listens. Its methods may be called from any goroutine.
type Server struct {
	config   Config
	listener net.Listener
	http     http.Server
	alive    context.Context // of every request; ends when Run gives up waiting for them
	kill     context.CancelFunc
	open     sync.WaitGroup // connections; each lasts until its handler has returned

	script atomic.Pointer[running]
	counts struct {
		requests, answered, faults, refused, left atomic.Uint64
		inFlight, peak                            atomic.Int64
	}
	ring ring

	mu    sync.Mutex
	paths map[string]*running // scripts of paths that have times
}

// running is a script and the number of requests it has met.
type running struct {
	script Script
	text   string
	used   atomic.Int64
}

// current returns the script for one more request.
func (r *running) current() Script {
	if r.script.Times > 0 && r.used.Add(1) > int64(r.script.Times) {
		return Script{}
	}
	return r.script
}

// New makes a server and binds its address, so that URL is right at once; clients wait until Run serves them. Without Run
// the address stays bound.
func New(config Config) (*Server, error) {
	if err := config.Script.check(); err != nil {
		return nil, err
	}
	if config.Addr == "" {
		config.Addr = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", config.Addr)
	if err != nil {
		return nil, fmt.Errorf("echo model: listen on %q (expected HOST:PORT): %w", config.Addr, err)
	}
	s := newServer(config)
	s.listener = listener
	return s, nil
}

func newServer(config Config) *Server {
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{config: config, paths: map[string]*running{}}
	s.alive, s.kill = context.WithCancel(context.Background())
	s.script.Store(&running{script: config.Script, text: config.Script.String()})
	s.http = http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return s.alive },
		ConnState:         s.connection,
		ErrorLog:          slog.NewLogLogger(config.Log.Handler(), slog.LevelDebug),
	}
	return s
}

// Run serves until ctx ends, gives answers under way two seconds, closes all connections and returns when the last has
// ended: nil if ctx ended it, else what broke the listener. A Server runs once.
func (s *Server) Run(ctx context.Context) error {
	defer s.kill()
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.listener) }()
	s.config.Log.Info("echo_model_listens", "url", s.URL())
	var broken error
	select {
	case broken = <-served:
	case <-ctx.Done():
		grace, cancel := context.WithTimeout(context.Background(), stopGrace)
		if s.http.Shutdown(grace) != nil {
			s.kill()
		}
		cancel()
		broken = <-served
	}
	s.http.Close()
	s.kill()
	s.open.Wait()
	if errors.Is(broken, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("echo model: %w", broken)
}

// connection counts open connections: net/http reports a new one before Serve can return, and of its end when its last
// handler has returned, which neither Shutdown nor Close waits for.
func (s *Server) connection(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.open.Add(1)
	case http.StateClosed:
		s.open.Done()
	}
}

// URL is the api_base for clients: http://HOST:PORT/v1.
func (s *Server) URL() string { return "http://" + s.listener.Addr().String() + "/v1" }

// ScriptURL is the api_base under which requests run by that script, whatever the default is.
func (s *Server) ScriptURL(script Script) string {
	return "http://" + s.listener.Addr().String() + "/s/" + script.String() + "/v1"
}

// SetScript replaces the default script for requests that come from now on; its count of times restarts. It refuses
// what ParseScript would.
func (s *Server) SetScript(script Script) error {
	if err := script.check(); err != nil {
		return err
	}
	s.script.Store(&running{script: script, text: script.String()})
	return nil
}

// Stats returns the counts; each is exact, together they are of no single moment.
func (s *Server) Stats() Stats {
	c := &s.counts
	return Stats{
		Requests: c.requests.Load(), Answered: c.answered.Load(), Faults: c.faults.Load(), Refused: c.refused.Load(),
		Left: c.left.Load(), InFlight: c.inFlight.Load(), Peak: c.peak.Load(),
	}
}

// scriptOf returns the script for one more request with that segment in its path; none means the default.
func (s *Server) scriptOf(segment string, inPath bool) (Script, error) {
	if !inPath {
		return s.script.Load().current(), nil
	}
	script, err := ParseScript(segment)
	if err != nil || script.Times == 0 {
		return script, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.paths[segment]
	if r == nil {
		if len(s.paths) >= maxCounted {
			return Script{}, fmt.Errorf("echo script: more than %d different scripts with times: restart the echo", maxCounted)
		}
		r = &running{script: script}
		s.paths[segment] = r
	}
	return r.current(), nil
}

// begin and end count a request under way.
func (s *Server) begin() {
	now := s.counts.inFlight.Add(1)
	for peak := s.counts.peak.Load(); now > peak && !s.counts.peak.CompareAndSwap(peak, now); {
		peak = s.counts.peak.Load()
	}
}

func (s *Server) end() { s.counts.inFlight.Add(-1) }

// wait lets d pass and reports whether the client is still there. A timer costs a waiting request nothing but its
// memory.
func (s *Server) wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Bounds of the ring of prompts.
const (
	ringSize   = 100
	maxKept    = 64 << 10 // bytes of one prompt's messages; the oldest go first, the question is what a viewer needs
	maxControl = 4 << 10
)

// Prompt is one prompt as GET /last shows it.
type Prompt struct {
	Number    uint64    `json:"number"`
	Time      time.Time `json:"time"`
	Endpoint  string    `json:"endpoint"`
	Model     string    `json:"model"` // as the client named it
	Turn      int       `json:"turn"`
	Stream    bool      `json:"stream"`
	Script    string    `json:"script"`
	Messages  []Message `json:"messages"`
	LeftOut   int       `json:"left_out"` // earlier messages that were too large to keep
	Answer    string    `json:"answer"`
	ToolCall  string    `json:"tool_call,omitempty"`
	Shortened bool      `json:"shortened"` // a kept text is not whole
}

// ring keeps the last prompts.
type ring struct {
	mu    sync.Mutex
	items [ringSize]Prompt
	added int
}

// add keeps p, whose texts share the memory of a body of that size.
func (r *ring) add(p Prompt, body int) {
	p.shrink(body)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.items[r.added%ringSize] = p
	r.added++
}
