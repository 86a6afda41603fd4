package gateway

import (
	"context"
	"net/http"
	"strings"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/gateway/dashboard"
	"github.com/dspex/dspex/internal/tokens"
)

// caller is who sends a request, and what it may do. Without tokens it is everybody, as the gateway's own user.
type caller struct {
	client *dspex.Client
	tenant string
	role   tokens.Role // "": what the gateway's user may
	prefix string      // of its sessions, and of its ids of anonymous jobs
	span   span
	body   []byte // of the request, if it is JSON
}

type callerKey struct{}

// who is the caller of a request that the guard has let in.
func who(ctx context.Context) *caller {
	c, _ := ctx.Value(callerKey{}).(*caller)
	return c
}

// Traceparent is that of the HTTP request at hand: its jobs belong to the caller's span (dspex.WithPropagator).
func Traceparent(ctx context.Context) string {
	if c := who(ctx); c != nil {
		return c.span.traceparent
	}
	return ""
}

// traceID is that of a request, "" if there is none.
func traceID(ctx context.Context) string {
	if c := who(ctx); c != nil {
		return c.span.id()
	}
	return ""
}

// open are the paths that anybody may read: they report whether the gateway serves, or request a token, or lead there.
func open(r *http.Request) bool {
	path := r.URL.Path
	return path == "/livez" || path == "/readyz" || dashboard.Open(path) || path == "/" && isBrowser(r)
}

// identify returns who sends the request.
func (g *Gateway) identify(r *http.Request) (*caller, *problem) {
	if g.tokens == nil || open(r) {
		return &caller{client: g.client, tenant: tokens.Default}, nil
	}
	scheme, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if text == "" && dashboard.Serves(r.URL.Path) { // the cookie counts nowhere else
		scheme, text = "Bearer", dashboard.TokenOf(r)
	}
	if text == "" || !strings.EqualFold(scheme, "Bearer") {
		return nil, denied(http.StatusUnauthorized, codeToken, "header.Authorization", "Bearer and a token", "the request has no token")
	}
	held := g.tokens.Find(strings.TrimSpace(text))
	if held == nil {
		return nil, denied(http.StatusUnauthorized, codeToken, "header.Authorization", "Bearer and a token", "the token is not known, or was revoked")
	}
	client := g.client
	if held.Tenant != tokens.Default {
		client = g.cfg.Tenants[held.Tenant]
	}
	if client == nil {
		return nil, denied(http.StatusForbidden, codeTenant, "", "", "the token is for a tenant that this gateway does not serve")
	}
	if wait := held.Wait(); wait > 0 {
		p := busy("the request exceeds the token's rate")
		p.RetryAfterMS = max(wait.Milliseconds(), 1)
		return nil, p
	}
	return &caller{client: client, tenant: held.Tenant, role: held.Role, prefix: held.Sessions}, nil
}

func denied(status int, code, path, expected, text string) *problem {
	p := refused(status, code, path, expected, text)
	p.Hint = "`dspex tokens new` makes a token"
	return p
}

// maySee refuses a job or a session that is not the caller's. An anonymous job is whose its id begins as the sessions do.
func (c *caller) maySee(job dspex.JobRef) *problem {
	switch {
	case job.Session != "" && !strings.HasPrefix(job.Session, c.prefix):
		return refused(http.StatusForbidden, codeSession, "session", "a session whose name begins with "+c.prefix, "the token is for other sessions")
	case job.Session == "" && !strings.HasPrefix(job.ID, c.prefix):
		return refused(http.StatusForbidden, codeSession, "job", "a job id that begins with "+c.prefix, "the token is for other jobs")
	}
	return nil
}

// mayRun refuses a command that is not for the caller's role, or that names a session which is not the caller's.
func (c *caller) mayRun(session string, body *jobBody) *problem {
	named := body.session(session)
	if named != session {
		if p := c.maySee(dspex.JobRef{Session: named}); p != nil {
			p.Path = "args." + contract.ArgSession
			return p
		}
	}
	if c.role != tokens.Call || contract.RoleNeeded(body.Command, session != "") == "" && named == session {
		return nil
	}
	p := refused(http.StatusForbidden, contract.CodeRole, "command", "a token with the role operate", "the command, or a session named in the arguments, needs the role operate")
	p.Category = contract.Python
	return p
}

// operates reports whether a command goes to the operators' side: the caller has the role, and the command needs it.
func (c *caller) operates(session string, body *jobBody) bool {
	return c.role == tokens.Operate && (contract.RoleNeeded(body.Command, session != "") != "" || body.session(session) != session)
}

// onlyOperators keeps a page for those who may operate, where there are tokens.
func onlyOperators(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if who(r.Context()).role == tokens.Call {
			refused(http.StatusForbidden, contract.CodeRole, "", "a token with the role operate", "the metrics include all tenants").write(w, traceID(r.Context()))
			return
		}
		next.ServeHTTP(w, r)
	})
}
