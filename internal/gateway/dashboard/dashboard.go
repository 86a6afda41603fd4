// Package dashboard shows a pool in the browser: what runs, what waits, what is wrong, and what to do about it. It is a client of the
// contract like any other, and shows what `dspex` shows in the terminal.
package dashboard

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/contract"
)

// TraceID is the place of a trace's id in an address.
const TraceID = "{trace_id}"

// Root is the path of the dashboard.
const Root = "/dashboard"

// Serves reports whether a path is the dashboard's.
func Serves(path string) bool { return path == Root || strings.HasPrefix(path, Root+"/") }

// Open reports whether a path of the dashboard may be read without a token.
func Open(path string) bool {
	return path == Root+"/login" || strings.HasPrefix(path, Root+"/assets/")
}

// Caller is the user of a page.
type Caller struct {
	Client   *dspex.Client // of the caller's tenant
	Tenant   string
	Own      bool   // the client is the gateway's own, which may be an operator's
	Operates bool   // may act, and see what operators see
	Prefix   string // of its sessions, and of its ids of anonymous jobs
	Token    bool   // it came with a token
}

// Server serves the dashboard. Its exported fields are set before Declare.
type Server struct {
	Who   func(context.Context) Caller // sent the request
	Known func(token string) bool      // nil: there are no tokens, and no login
	Trace string                       // address of a trace, with TraceID in place of its id; "": none

	ctx  context.Context // ends with the server
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu      sync.Mutex
	watches map[string]*watch
	viewers int
	narrow  map[*dspex.Client]bool // the client's requests are those of an operator of a broker with accounts
}

// Close ends what goes on without a request.
func (s *Server) Close() {
	if s.stop != nil {
		s.stop()
	}
	s.wg.Wait()
}

const requestTime = 5 * time.Second // of one request to the service

// scopeOf is what the sender of a request sees.
func (s *Server) scopeOf(r *http.Request) (scope, error) {
	c := s.Who(r.Context())
	sc := scope{key: c.Tenant, client: c.Client, tenant: c.Tenant, ownTenant: c.Tenant, operates: c.Operates, prefix: c.Prefix, token: c.Token}
	switch {
	case c.Own && c.Operates && c.Prefix == "":
		sc.own, sc.key = c.Client, "*"
		if chosen := chosenTenant(r); chosen != "" {
			if several, err := s.servesSeveral(r.Context(), c.Client); err != nil || !several {
				return sc, err
			}
			sc.client, sc.tenant, sc.filtered, sc.key = c.Client.Admin().Tenant(chosen), chosen, true, "*"+chosen
		}
	case c.Own: // whose numbers are to be those of the tenant alone
		several, err := s.servesSeveral(r.Context(), c.Client)
		if err != nil {
			return sc, err
		}
		if several {
			sc.client = c.Client.Admin().Tenant(c.Tenant)
		}
	}
	return sc, nil
}

// servesSeveral reports whether the client is an operator's of a broker with accounts, who gets everybody's numbers.
func (s *Server) servesSeveral(ctx context.Context, c *dspex.Client) (bool, error) {
	s.mu.Lock()
	several, known := s.narrow[c]
	s.mu.Unlock()
	if known {
		return several, nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	stats, err := c.Stats(ctx)
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.narrow[c] = stats.Tenants != nil
	return stats.Tenants != nil, nil
}

// address is a page of the dashboard that reports what was done.
func address(page, done string, keys ...string) string {
	q := url.Values{"done": {done}}
	for i := 0; i+1 < len(keys); i += 2 {
		if keys[i+1] != "" {
			q.Set(keys[i], keys[i+1])
		}
	}
	return Root + page + "?" + q.Encode()
}

// chosenTenant is the tenant that an operator views, "" for all. The service decides whether it may be named.
func chosenTenant(r *http.Request) string {
	c, err := r.Cookie(tenantCookie)
	if err != nil || !validTenant(c.Value) {
		return ""
	}
	return c.Value
}

// validTenant reports whether name has the form of a tenant's name, which is that of a session id.
func validTenant(name string) bool { return contract.ValidSession(name) }

func asError(err error) *dspex.Error {
	e, _ := errors.AsType[*dspex.Error](err)
	return e
}

// Cookies of the dashboard. They are sent to its own paths alone, and never from a page of another site.
const (
	tokenCookie  = "dspex_token"
	tenantCookie = "dspex_tenant"
)
