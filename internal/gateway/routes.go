package gateway

import (
	"context"
	"maps"
	"net/http"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/gateway/dashboard"
	"github.com/dspex/dspex/internal/gateway/mcptools"
	"github.com/dspex/dspex/internal/gateway/openai"
	"github.com/dspex/dspex/internal/tokens"
)

// Handler serves all paths. Requests that end it early are cancelled by their own contexts.
func (g *Gateway) Handler(registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", g.livez)
	mux.HandleFunc("GET /readyz", g.readyz)
	mux.Handle("GET /metrics", onlyOperators(promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: scrapesMost, Timeout: scrapeTime})))
	g.declare(humago.New(mux, apiConfig()))
	models := g.cfg.ModelsNow
	if models == nil {
		models = func() []string { return g.cfg.Models }
	}
	(&openai.Server{Who: callerOf, Left: g.cancelLeft, Models: models}).Declare(mux)
	mux.Handle("/mcp", mcptools.Handler(g.toolsOf, apiVersion, g.cfg.MaxBody))
	g.board.Declare(mux)
	mux.HandleFunc("GET /{$}", entry)
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
		if openai.Serves(r.URL.Path) {
			p.Detail = openai.NotServed(p.Detail)
		}
		refuse(w, r, p)
	}
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
	g.board = &dashboard.Server{Who: g.looks, Trace: g.cfg.TraceURL}
	if cfg.Tokens != "" {
		var err error
		if g.tokens, err = g.cfg.openTokens(); err != nil {
			return nil, err
		}
		g.board.Known = func(token string) bool { return g.tokens.Find(token) != nil }
	}
	return g, g.metrics.register(registry)
}

// callerOf is the caller in the form of the endpoints of OpenAI's protocol.
func callerOf(ctx context.Context) openai.Caller {
	c := who(ctx)
	return openai.Caller{Client: c.client, Prefix: c.prefix}
}

// looks is the caller in the form of the dashboard.
func (g *Gateway) looks(ctx context.Context) dashboard.Caller {
	c := who(ctx)
	return dashboard.Caller{Client: c.client, Tenant: c.tenant, Own: c.client == g.client, Operates: c.role != tokens.Call, Prefix: c.prefix, Token: g.tokens != nil}
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

// declare registers the operations of jobs and of the pool.
func (g *Gateway) declare(api huma.API) {
	failed := &huma.Response{Description: "A problem (RFC 9457)", Content: map[string]*huma.MediaType{problemType: {Schema: api.OpenAPI().Components.Schemas.Schema(typeOf[problem](), true, "Problem")}}}
	op := func(id, method, path, summary string, responses map[string]*huma.Response) huma.Operation {
		all := map[string]*huma.Response{"default": failed}
		maps.Copy(all, responses)
		return huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, Responses: all, MaxBodyBytes: g.cfg.MaxBody, BodyReadTimeout: -1}
	}
	events := &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Description: "Events: partial (attempt, n, field, chunk, call, status), and at the end reply or problem. Ids are attempt.n and end"}}
	reply := &huma.Response{Description: "The reply of the job (contract/job.md, Reply)", Content: map[string]*huma.MediaType{contract.JSON: {Schema: &huma.Schema{Type: huma.TypeObject}}, eventStream: events}}
	stored := &huma.Response{Description: "The job is stored; the header Location has the address of its outcome",
		Headers: map[string]*huma.Param{"Location": {Schema: &huma.Schema{Type: huma.TypeString}}}, Content: map[string]*huma.MediaType{contract.JSON: {Schema: huma.SchemaFromType(api.OpenAPI().Components.Schemas, typeOf[jobState]())}}}
	ran := map[string]*huma.Response{"200": reply, "202": stored}
	huma.Register(api, op("run-in-session", http.MethodPost, "/v1/sessions/{session}/jobs", "Run a command in a session", ran), g.runInSession)
	huma.Register(api, op("run-anonymously", http.MethodPost, "/v1/jobs", "Run a command without a session", ran), g.runAnonymously)
	huma.Register(api, op("get-job", http.MethodGet, "/v1/jobs/{id}", "The state of a job, or its outcome", nil), g.getJob)
	responses := map[string]*huma.Response{"200": {Description: "The events of a streamed job", Content: map[string]*huma.MediaType{eventStream: events}}, "204": {Description: "The client has all of them"}}
	huma.Register(api, op("get-job-events", http.MethodGet, "/v1/jobs/{id}/events", "Resume the stream of a job", responses), g.getEvents)
	huma.Register(api, op("cancel-job", http.MethodDelete, "/v1/jobs/{id}", "Cancel a job; the answer is its outcome", nil), g.cancelJob)
	huma.Register(api, op("list-sessions", http.MethodGet, "/v1/sessions", "A page of the sessions, for operators", nil), g.listSessions)
	huma.Register(api, op("get-session", http.MethodGet, "/v1/sessions/{session}", "What is known of a session, for operators", nil), g.getSession)
	huma.Register(api, op("get-health", http.MethodGet, "/v1/health", "Measure the pool's health now", nil), g.getHealth)
	huma.Register(api, op("get-stats", http.MethodGet, "/v1/stats", "The pool's numbers, over all hosts", nil), g.getStats)
}
