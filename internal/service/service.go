// Package service is a NATS micro service: endpoints, requests, and the counts that `nats service stats` and metrics show. It is the
// one place that uses that library.
package service

import (
	"fmt"
	"maps"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/dspex/dspex/internal/jobs"
)

// Headers are those of a request or an answer.
type Headers map[string][]string

// Get is the first value of a header, "" if there is none.
func (h Headers) Get(name string) string {
	if v := h[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// Request is one request to an endpoint. It gets one answer, which may come after its handler has returned.
type Request interface {
	Subject() string
	Reply() string
	Headers() Headers
	Data() []byte
	Respond(body []byte, headers Headers) error
	// Refuse is an answer that reports that the request failed: its number and text go into headers, too.
	Refuse(number int, text string, body []byte, headers Headers) error
}

// Config names the service.
type Config struct {
	Name, Version, Description, Queue string
	Metadata                          map[string]string
}

// Service answers requests. All instances of one queue share them.
type Service struct {
	nc      *nats.Conn
	micro   micro.Service
	refused map[string]*atomic.Int64 // by endpoint; written before the first request
}

// Start serves the endpoints.
func Start(nc *nats.Conn, c Config, endpoints []Endpoint) (*Service, error) {
	s := &Service{nc: nc, refused: map[string]*atomic.Int64{}}
	for _, e := range endpoints {
		s.refused[e.Name] = new(atomic.Int64)
	}
	var err error
	s.micro, err = micro.AddService(nc, micro.Config{
		Name: c.Name, Version: c.Version, Description: c.Description, QueueGroup: c.Queue, Metadata: c.Metadata,
		StatsHandler: func(e *micro.Endpoint) any { return map[string]int64{"refused": s.refused[e.Name].Load()} },
	})
	if err != nil {
		return nil, fmt.Errorf("service: %w", err)
	}
	for _, e := range endpoints {
		handler := micro.HandlerFunc(func(r micro.Request) { e.Handler(request{r, s.refused[e.Name]}) })
		if err := s.micro.AddEndpoint(e.Name, handler, micro.WithEndpointSubject(e.Subject),
			micro.WithEndpointPendingLimits(nats.DefaultSubPendingMsgsLimit, e.PendingBytes)); err != nil {
			return nil, fmt.Errorf("endpoint %s: %w", e.Name, err)
		}
	}
	return s, nil
}

// Endpoint is a subject that is served. Its handler is called for one request at a time, so it does not wait.
type Endpoint struct {
	Name, Subject string
	PendingBytes  int // that wait for the handler; what is beyond is thrown away
	Handler       func(Request)
}

// Count is what an endpoint has done.
type Count struct {
	Endpoint          string
	Requests, Refused int64
}

// Counts are those of all endpoints.
func (s *Service) Counts() (all []Count) {
	for _, e := range s.micro.Stats().Endpoints {
		all = append(all, Count{e.Name, int64(e.NumRequests), s.refused[e.Name].Load()})
	}
	return all
}

// Stop takes no more requests: another instance gets them. It returns when the handlers of those that came before have returned,
// false if they have not within the time.
func (s *Service) Stop(within time.Duration) bool {
	_ = s.micro.Stop() // its subscriptions are drained
	handled := make(chan struct{})
	if s.nc.FlushTimeout(within) != nil || s.nc.Barrier(func() { close(handled) }) != nil {
		return true // the connection is gone, and all requests with it
	}
	select {
	case <-handled:
		return true
	case <-time.After(within):
		return false
	}
}

// request is one that may be answered after its handler has returned. micro's own Error notes the failure for its statistics
// without a lock, which only the handler's goroutine may do.
type request struct {
	micro.Request
	refused *atomic.Int64
}

func (r request) Headers() Headers { return Headers(r.Request.Headers()) }

func (r request) Refuse(number int, text string, body []byte, headers Headers) error {
	r.refused.Add(1)
	all := Headers{micro.ErrorHeader: {text}, micro.ErrorCodeHeader: {strconv.Itoa(number)}}
	maps.Copy(all, headers)
	return r.Respond(body, all)
}

// Respond sends the request's only answer.
func (r request) Respond(body []byte, headers Headers) error {
	if err := r.Request.Respond(body, micro.WithHeaders(micro.Headers(headers))); err != nil || !jobs.Imported(r.Reply()) {
		return err
	}
	return r.Request.Respond(nil) // the broker drops the call
}

// ErrTooLarge reports that an answer is larger than the broker takes.
var ErrTooLarge = nats.ErrMaxPayload
