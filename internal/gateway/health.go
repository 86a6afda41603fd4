package gateway

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/tokens"
)

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }

// Bounds of the probes.
const (
	scrapeTime  = 10 * time.Second // of one answer of /metrics
	scrapesMost = 4                // at once
)

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
