// Package gateway serves dspex over HTTP, for those who have no NATS. It is a client of the contract like any other: what it can do,
// a Go program with package dspex can do as well.
package gateway

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/gateway/dashboard"
	"github.com/dspex/dspex/internal/gateway/openai"
	"github.com/dspex/dspex/internal/tokens"
)

// Gateway answers HTTP requests with a client.
type Gateway struct {
	client  *dspex.Client  // of the tenant that there is without tenants
	tokens  *tokens.Keeper // nil: every caller is the gateway's user
	cfg     Config
	metrics *metrics
	ready   readiness
	feeds   *feeds
	board   *dashboard.Server
	ending  atomic.Bool // the gateway itself leaves its clients
}

// New makes a gateway of a client that the caller closes after the last request. Its numbers go into the registry, which /metrics
// shows.
func New(client *dspex.Client, cfg Config, registry *prometheus.Registry) (*Gateway, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	g := &Gateway{client: client, cfg: cfg.withDefaults(), metrics: newMetrics(client)}
	g.feeds = newFeeds(g.cfg.MaxRequests)
	g.ready.connected, g.ready.ask = client.Connected, client.Health
	g.board = &dashboard.Server{Who: g.looks}
	if cfg.Tokens != "" {
		var err error
		if g.tokens, err = g.cfg.openTokens(); err != nil {
			return nil, err
		}
		g.board.Known = func(token string) bool { return g.tokens.Find(token) != nil }
	}
	return g, g.metrics.register(registry)
}

// asked is the caller in the form of the endpoints of OpenAI's protocol.
func asked(ctx context.Context) openai.Caller {
	c := who(ctx)
	return openai.Caller{Client: c.client, Prefix: c.prefix}
}

// looks is the caller in the form of the dashboard.
func (g *Gateway) looks(ctx context.Context) dashboard.Caller {
	c := who(ctx)
	return dashboard.Caller{Client: c.client, Tenant: c.tenant, Own: c.client == g.client, Operates: c.role != tokens.Call, Prefix: c.prefix, Token: g.tokens != nil}
}

// Close ends what goes on without a request: the calls whose partial output is kept. Their jobs go on.
func (g *Gateway) Close() {
	g.board.Close()
	g.feeds.close()
}

const apiVersion = "1"

const about = `Runs commands of dspex over HTTP. Jobs of one session run one at a time, in the order accepted; an accepted job gets exactly one outcome.
Errors are problems (RFC 9457) with the category and code of dspex's contract.`

// ourErrors makes huma write its own refusals as problems too. The variable is huma's, for the whole process.
var ourErrors = sync.OnceFunc(func() {
	huma.NewError = func(status int, text string, causes ...error) huma.StatusError { return refusal(status, text, causes) }
})

// apiConfig has no pages that load scripts from elsewhere, and no keys in bodies but those of the contract.
func apiConfig() huma.Config {
	ourErrors()
	c := huma.DefaultConfig("dspex", apiVersion)
	c.Info.Description = about
	c.DocsPath, c.SchemasPath, c.CreateHooks = "", "", nil
	c.RejectUnknownQueryParameters = true
	c.Transformers = append(c.Transformers, withTrace)
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"token": {Type: "http", Scheme: "bearer", Description: "Needed where the gateway has tokens"}}
	c.Security = []map[string][]string{{}, {"token": {}}}
	return c
}

// withTrace gives problems that huma writes the id of the trace.
func withTrace(c huma.Context, _ string, v any) (any, error) {
	if p, ok := v.(*problem); ok {
		p.Trace = traceID(c.Context())
	}
	return v, nil
}
