package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/gateway/dashboard"
	"github.com/dspex/dspex/internal/tokens"
	"github.com/dspex/dspex/internal/tracing"
)

// Config is what a gateway accepts. Zero values mean the defaults.
type Config struct {
	Listen      string          // HOST:PORT
	ListenFlag  string          // that names it, for messages; default --listen
	MaxBody     int64           // bytes of a request's body
	MaxRequests int             // that are served at once
	Cert, Key   string          // files, for TLS
	Models      []string        // profiles of language models that /v1/models shows
	ModelsNow   func() []string // in place of Models, where they change; nil: they do not
	Tokens      string          // file of tokens; "": none
	Traces      *tracing.Tracer // nil: there are no spans
	TraceURL    string          // address of a trace for people, with {trace_id}; "": the dashboard has no links to traces
	// Tenants are the connections of those beside the default one, by name.
	Tenants map[string]*dspex.Client
	Log     *slog.Logger

	HeaderTime time.Duration // that a client may take to send a request's headers
	BodyTime   time.Duration // that a client may take to send a body
	WriteTime  time.Duration // that one write of an answer may wait for its client
}

// TraceURLHelp is the help text of --trace-url.
const TraceURLHelp = "address of a trace in your tracing system, with {trace_id} in place of its id: the dashboard's page of a job leads there"

// Defaults and bounds.
const (
	DefaultListen      = "127.0.0.1:8080"
	DefaultMaxBody     = 1 << 20 // the broker takes half of its max_payload, 1 MiB by default
	DefaultMaxRequests = 1024

	headerTime  = 10 * time.Second
	bodyTime    = 30 * time.Second
	writeTime   = 10 * time.Second
	idleTime    = 2 * time.Minute
	maxHeader   = 16 << 10
	maxBodyMost = 64 << 20
)

func (c Config) withDefaults() Config {
	c.Listen, c.ListenFlag = cmp.Or(c.Listen, DefaultListen), cmp.Or(c.ListenFlag, "--listen")
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	c.MaxBody = cmp.Or(c.MaxBody, DefaultMaxBody)
	c.MaxRequests = cmp.Or(c.MaxRequests, DefaultMaxRequests)
	c.HeaderTime, c.BodyTime, c.WriteTime = cmp.Or(c.HeaderTime, headerTime), cmp.Or(c.BodyTime, bodyTime), cmp.Or(c.WriteTime, writeTime)
	return c
}

// Check reports everything that is wrong with the configuration.
func (c Config) Check() error {
	c = c.withDefaults()
	var wrong []error
	if c.MaxBody < 1024 || c.MaxBody > maxBodyMost {
		wrong = append(wrong, fmt.Errorf("--max-body must be 1024 to %d bytes, got %d", maxBodyMost, c.MaxBody))
	}
	if c.MaxRequests < 1 || c.MaxRequests > 1<<20 {
		wrong = append(wrong, fmt.Errorf("--max-requests must be 1 to %d, got %d", 1<<20, c.MaxRequests))
	}
	if (c.Cert == "") != (c.Key == "") {
		wrong = append(wrong, errors.New("--tls-cert and --tls-key belong together"))
	}
	if c.Tokens != "" {
		if _, err := tokens.Read(c.Tokens); err != nil {
			wrong = append(wrong, fmt.Errorf("--tokens: %w", err))
		}
	}
	if u, err := url.Parse(strings.ReplaceAll(c.TraceURL, dashboard.TraceID, "")); c.TraceURL != "" &&
		(err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || !strings.Contains(c.TraceURL, dashboard.TraceID)) {
		wrong = append(wrong, fmt.Errorf("--trace-url must be an address with %s, such as http://127.0.0.1:16686/trace/%[1]s", dashboard.TraceID))
	}
	return errors.Join(append(wrong, c.checkListen())...)
}

// openTokens opens the file of tokens, which must be for tenants that are served.
func (c Config) openTokens() (*tokens.Keeper, error) {
	k, err := tokens.Open(c.Tokens, func(err error) { c.Log.Error("tokens_unreadable", "error", err) })
	if err != nil {
		return nil, fmt.Errorf("--tokens: %w", err)
	}
	for tenant := range k.Tenants() {
		if tenant != tokens.Default && c.Tenants[tenant] == nil {
			return nil, fmt.Errorf("--tokens has a token of the tenant %q, which needs --tenant %s=CONTEXT", tenant, tenant)
		}
	}
	return k, nil
}

// checkListen refuses addresses that others can reach: no caller would be authenticated.
func (c Config) checkListen() error {
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("%s must be HOST:PORT, such as %s, got %q", c.ListenFlag, DefaultListen, c.Listen)
	}
	if c.Tokens == "" && !isLoopback(host) {
		return fmt.Errorf("%s must be an address of the loopback interface, such as 127.0.0.1 or [::1], got %q: without --tokens anyone who reaches the gateway may run every command of its user", c.ListenFlag, host)
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
