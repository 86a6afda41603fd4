package gateway

import (
	"context"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/gateway/mcptools"
	"github.com/dspex/dspex/internal/gateway/openai"
)

// Handler serves all paths. Requests that end it early are cancelled by their own contexts.
func (g *Gateway) Handler(registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", g.livez)
	mux.HandleFunc("GET /readyz", g.readyz)
	mux.Handle("GET /metrics", onlyOperators(promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: scrapesMost, Timeout: scrapeTime})))
	g.declare(humago.New(mux, apiConfig()))
	(&openai.Server{Who: asked, Left: g.cancelLeft, Models: g.cfg.Models}).Declare(mux)
	mux.Handle("/mcp", mcptools.Handler(g.toolsOf, apiVersion, g.cfg.MaxBody))
	g.board.Declare(mux)
	mux.HandleFunc("/", elsewhere(mux))
	return g.guard(g.shortcut(mux))
}

// OpenAPI is the description of the API, as /openapi.json shows it.
func OpenAPI() ([]byte, error) {
	g := &Gateway{}
	api := humago.New(http.NewServeMux(), apiConfig())
	g.declare(api)
	return api.OpenAPI().MarshalJSON()
}

// toolsOf is whose tools a request of the Model Context Protocol sees.
func (g *Gateway) toolsOf(r *http.Request) mcptools.Access {
	c := who(r.Context())
	return mcptools.Access{Client: c.client, Prefix: c.prefix, Session: r.Header.Get(mcptools.SessionHeader),
		Left: func(ctx context.Context, job dspex.JobRef) { g.abandon(ctx, c.client, job) }}
}

// elsewhere answers what no other handler of the mux does.
func elsewhere(mux *http.ServeMux) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p := refused(http.StatusNotFound, codePath, "", "", "there is nothing at this path")
		var allowed []string
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
			if _, pattern := mux.Handler(&http.Request{Method: method, URL: r.URL, Host: r.Host}); pattern != "/" {
				allowed = append(allowed, method)
			}
		}
		if len(allowed) > 0 {
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			p = refused(http.StatusMethodNotAllowed, codeMethod, "", strings.Join(allowed, " or "), "the path has no such method")
		}
		p.Hint = "GET /openapi.json lists the paths and methods"
		p.write(w, traceID(r.Context()))
	}
}
