package tenants

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/gateway"
	"github.com/dspex/dspex/internal/tokens"
)

// board is a gateway whose user is an operator, with a connection for each tenant, and its tokens by name.
type board struct {
	t      *testing.T
	url    string
	tokens map[string]string
}

func newBoard(t *testing.T) board {
	t.Helper()
	connect := func(user string) *dspex.Client {
		c, err := dspex.Connect(t.Context(), shared.broker.ClientURL(), dspex.WithNATS(nats.UserInfo(user, "pw")))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	file := filepath.Join(t.TempDir(), "tokens.json")
	b := board{t: t, tokens: map[string]string{}}
	for name, token := range map[string]tokens.Token{
		"operator": {Tenant: "default", Role: tokens.Operate}, "caller": {Tenant: "default", Role: tokens.Call}, "acme": {Tenant: "acme", Role: tokens.Operate}, "globex": {Tenant: "globex", Role: tokens.Call},
	} {
		_, text, err := tokens.New(file, token, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		b.tokens[name] = text
	}
	registry := prometheus.NewRegistry()
	g, err := gateway.New(connect("operator"), gateway.Config{Tokens: file, Tenants: map[string]*dspex.Client{"acme": connect("acme"), "globex": connect("globex")}}, registry)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(g.Handler(registry))
	t.Cleanup(func() { s.Close(); g.Close() })
	b.url = s.URL
	return b
}

// get is what the bearer of a token gets at a path.
func (b board) get(t *testing.T, who, path string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", b.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+b.tokens[who])
	return answered(t, r)
}

// page is a page as the bearer of a token sees it, who has chosen a tenant.
func (b board) page(who, chosen, path string) (int, string) {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), "GET", b.url+"/dashboard"+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Cookie", "dspex_token="+b.tokens[who]+"; dspex_tenant="+chosen)
	return answered(b.t, r)
}

func answered(t *testing.T, r *http.Request) (int, string) {
	t.Helper()
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

// TestTheDashboardShowsEachTheirOwn: an operator chooses a tenant, and nobody else sees another's by it.
func TestTheDashboardShowsEachTheirOwn(t *testing.T) {
	as(t, "acme").succeeds("dspex.rpc.session.boarded_acme", command("append", m{"x": "of acme"}), "Dspex-Job", "boarded")
	b := newBoard(t)
	session, job := "/session?id=boarded_acme", "/job?id=boarded&session=boarded_acme"
	for _, row := range []struct {
		who, chosen, path string
		status            int
	}{
		{"operator", "acme", session, 200}, {"operator", "acme", job, 200}, {"operator", "acme", "/sessions", 200}, {"operator", "acme", "/batches", 200},
		{"operator", "globex", session, 404}, {"operator", "globex", job, 404}, {"operator", "", session, 404}, {"operator", "", "/hosts", 200},
		{"acme", "", session, 200}, {"acme", "globex", session, 200}, {"acme", "", "/hosts", 403}, {"acme", "", "/breakers", 403},
		{"globex", "acme", session, 403}, {"globex", "acme", job, 404}, {"globex", "", "", 200},
		{"caller", "acme", job, 404}, {"caller", "acme", session, 403}, {"caller", "", "/hosts", 403}, {"caller", "", "", 200},
	} {
		t.Run(strings.Join([]string{row.who, row.chosen, row.path}, " "), func(t *testing.T) {
			if status, text := b.page(row.who, row.chosen, row.path); status != row.status {
				t.Errorf("%d, expected %d: %s", status, row.status, text)
			}
		})
	}
	if _, text := b.page("globex", "acme", "/jobs"); strings.Contains(text, "acme") {
		t.Errorf("another's page names acme: %s", text)
	}
	for end := time.Now().Add(patience); ; { // an operator's page lists the tenants once it has them
		if _, text := b.page("operator", "", ""); strings.Contains(text, "<option>acme</option>") {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the operator cannot choose a tenant")
		}
		<-time.After(50 * time.Millisecond)
	}
	for _, who := range []string{"caller", "acme", "globex"} {
		if _, text := b.page(who, "", ""); strings.Contains(text, "<option") {
			t.Errorf("%s may choose a tenant", who)
		}
	}
}

// TestACallersTokenGetsTheNumbersOfItsTenantAlone: the gateway's own user sees those of all tenants.
func TestACallersTokenGetsTheNumbersOfItsTenantAlone(t *testing.T) {
	b := newBoard(t)
	for _, c := range []struct {
		who  string
		sees bool // the numbers of others
	}{{"operator", true}, {"caller", false}, {"acme", false}, {"globex", false}} {
		t.Run(c.who, func(t *testing.T) {
			status, text := b.get(t, c.who, "/v1/stats")
			if status != http.StatusOK {
				t.Fatalf("status must be 200, got %d: %s", status, text)
			}
			if got := strings.Contains(text, `"tenants"`); got != c.sees {
				t.Errorf("numbers by tenant must be there: %v, got %v: %s", c.sees, got, text)
			}
		})
	}
}

// TestATokenListsTheSessionsOfItsTenantAlone: an operator of the gateway's own tenant names another one.
func TestATokenListsTheSessionsOfItsTenantAlone(t *testing.T) {
	as(t, "acme").succeeds("dspex.rpc.session.listed_acme", command("append", m{"x": 1}))
	b := newBoard(t)
	for _, row := range []struct {
		who, path string
		status    int
		sees      bool
	}{
		{"operator", "/v1/sessions?prefix=listed", 200, false}, {"operator", "/v1/sessions?prefix=listed&tenant=acme", 200, true}, {"operator", "/v1/sessions?prefix=listed&tenant=globex", 200, false},
		{"operator", "/v1/sessions/listed_acme", 404, false}, {"operator", "/v1/sessions/listed_acme?tenant=acme", 200, true},
		{"acme", "/v1/sessions?prefix=listed", 200, true}, {"acme", "/v1/sessions?prefix=listed&tenant=globex", 403, false},
		{"globex", "/v1/sessions?prefix=listed", 403, false}, {"globex", "/v1/sessions?tenant=acme", 403, false}, {"caller", "/v1/sessions?tenant=acme", 403, false},
	} {
		t.Run(row.who+" "+row.path, func(t *testing.T) {
			status, text := b.get(t, row.who, row.path)
			if sees := strings.Contains(text, `"session_id":"listed_acme"`); status != row.status || sees != row.sees {
				t.Errorf("must be %d, with the session: %v, got %d: %s", row.status, row.sees, status, text)
			}
		})
	}
}
