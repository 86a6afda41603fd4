package gateway

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"sync"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/tokens"
)

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }

// Bounds of the probes.
const (
	readyTime   = 5 * time.Second  // of one check of the pool
	readyFor    = time.Second      // an answer counts for as long
	scrapeTime  = 10 * time.Second // of one answer of /metrics
	scrapesMost = 4                // at once
)

// readiness queries the pool once for all callers.
type readiness struct {
	connected func() bool
	ask       func(context.Context) (dspex.Health, error)

	mu   sync.Mutex
	at   time.Time
	last error
}

// now returns why the pool does not serve, nil if it does.
func (r *readiness) now(ctx context.Context) error {
	if !r.connected() {
		return errNoBroker
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.at.IsZero() && time.Since(r.at) < readyFor {
		return r.last
	}
	ctx, end := context.WithTimeout(context.WithoutCancel(ctx), readyTime)
	defer end()
	_, r.last = r.ask(ctx)
	r.at = time.Now()
	return r.last
}

// errNoBroker is the answer, without a wait, while no call can be served.
var errNoBroker = &dspex.Error{Category: dspex.ErrConnection, Code: contract.CodeBroker, Message: "the gateway has no connection to the broker", Retryable: true}

// livez answers as long as the process serves, whatever is behind it.
func (g *Gateway) livez(w http.ResponseWriter, _ *http.Request) { sayOK(w) }

// readyz answers whether calls would be served: the broker is reached, and the pool behind it serves.
func (g *Gateway) readyz(w http.ResponseWriter, r *http.Request) {
	if err := g.ready.now(r.Context()); err != nil {
		p := asProblem(err, dspex.JobRef{})
		p.Hint = ""
		p.withStatus(http.StatusServiceUnavailable).write(w, traceID(r.Context()))
		return
	}
	sayOK(w)
}

func sayOK(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "ok\n")
}

type rawOutput struct {
	Body json.RawMessage
}

func (g *Gateway) getHealth(ctx context.Context, _ *struct{}) (*rawOutput, error) {
	h, err := who(ctx).client.Health(ctx)
	if err != nil {
		return nil, asProblem(err, dspex.JobRef{})
	}
	return &rawOutput{h.Raw}, nil
}

func (g *Gateway) getStats(ctx context.Context, _ *struct{}) (*rawOutput, error) {
	c := who(ctx)
	s, err := c.client.Stats(ctx)
	if err == nil && s.Tenants != nil && c.role == tokens.Call { // the gateway's own user is an operator, who gets everybody's numbers
		s, err = c.client.Admin().Tenant(c.tenant).Stats(ctx)
	}
	if err != nil {
		return nil, asProblem(err, dspex.JobRef{})
	}
	return &rawOutput{s.Raw}, nil
}
