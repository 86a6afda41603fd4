package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/tokens"
)

// listSessionsInput chooses sessions (contract/sessions.md, "list").
type listSessionsInput struct {
	Prefix string `query:"prefix" maxLength:"64" doc:"Of the sessions' names"`
	Host   string `query:"host" pattern:"^[A-Za-z0-9_-]{1,64}$" doc:"The host that serves them now"`
	IdleMS int64  `query:"idle_ms" minimum:"0" maximum:"31622400000" doc:"Idle for at least this long"`
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"100" doc:"Of a page"`
	Cursor string `query:"cursor" pattern:"^[0-9]{1,20}$" doc:"From the page before"`
	TenantInput
}

// TenantInput is for operators of a broker with accounts.
type TenantInput struct {
	Tenant string `query:"tenant" pattern:"^[A-Za-z0-9_-]{1,64}$" doc:"Whose sessions; for operators of a broker with accounts"`
}

type getSessionInput struct {
	Session string `path:"session" pattern:"^[A-Za-z0-9_-]{1,64}$"`
	TenantInput
}

type sessionPage struct {
	Sessions []json.RawMessage `json:"sessions" doc:"Longest idle first, with the keys of contract/sessions.md, \"list\""`
	Cursor   string            `json:"cursor,omitempty" doc:"Of the next page; the last one has none. A page may have fewer sessions than its limit, even none, and have a cursor"`
}

type sessionPageOutput struct{ Body sessionPage }

func (g *Gateway) listSessions(ctx context.Context, in *listSessionsInput) (*sessionPageOutput, error) {
	c := who(ctx)
	client, p := g.sessionsOf(c, in.Tenant)
	if p != nil {
		return nil, p
	}
	prefix := in.Prefix
	if !strings.HasPrefix(prefix, c.prefix) {
		if !strings.HasPrefix(c.prefix, prefix) {
			return nil, refused(http.StatusForbidden, codeSession, "query.prefix", "a prefix that begins with "+c.prefix, "the token is for other sessions")
		}
		prefix = c.prefix
	}
	page, err := client.Admin().SessionsPage(ctx, dspex.SessionFilter{Prefix: prefix, Host: in.Host, Idle: time.Duration(in.IdleMS) * time.Millisecond, Limit: in.Limit}, in.Cursor)
	if err != nil {
		return nil, notListed(err, dspex.JobRef{})
	}
	out := &sessionPageOutput{sessionPage{Sessions: []json.RawMessage{}, Cursor: page.Next}}
	for _, s := range page.Items {
		out.Body.Sessions = append(out.Body.Sessions, s.Raw)
	}
	return out, nil
}

func (g *Gateway) getSession(ctx context.Context, in *getSessionInput) (*rawOutput, error) {
	c := who(ctx)
	client, p := g.sessionsOf(c, in.Tenant)
	if p == nil {
		p = c.maySee(dspex.JobRef{Session: in.Session})
	}
	if p != nil {
		return nil, p
	}
	s, err := client.Admin().GetSession(ctx, in.Session)
	if err != nil {
		return nil, notListed(err, dspex.JobRef{Session: in.Session})
	}
	return &rawOutput{s.Raw}, nil
}

// sessionsOf is the client that reads the sessions of a tenant, "" for the caller's own. Only operators may read them, and only the
// gateway's own those of others.
func (g *Gateway) sessionsOf(c *caller, tenant string) (*dspex.Client, *problem) {
	if c.role == tokens.Call {
		p := refused(http.StatusForbidden, contract.CodeRole, "", "a token with the role operate", "sessions are listed for operators")
		p.Category = contract.Python
		return nil, p
	}
	if tenant == "" || tenant == c.tenant {
		return c.client, nil
	}
	if c.client != g.client || c.prefix != "" {
		return nil, refused(http.StatusForbidden, codeTenant, "query.tenant", "the token's own tenant", "the token is for another tenant")
	}
	return c.client.Admin().Tenant(tenant), nil
}

// notListed is the problem of an error of the service, in the words of the request.
func notListed(err error, of dspex.JobRef) *problem {
	p := asProblem(err, of)
	if p.Path == contract.HeaderTenant {
		p.Path, p.Expected, p.Detail = "query.tenant", "left out", "the parameter tenant is for a broker with accounts"
	}
	return p
}
