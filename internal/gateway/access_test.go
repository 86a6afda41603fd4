package gateway_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/dspextest"
	"github.com/dspex/dspex/internal/gateway"
	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/tokens"
)

// bearer makes a token and returns the header that shows it.
func bearer(t *testing.T, path string, token tokens.Token) string {
	t.Helper()
	if token.Tenant == "" {
		token.Tenant = tokens.Default
	}
	if token.Role == "" {
		token.Role = tokens.Call
	}
	_, text, err := tokens.New(path, token, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return "Authorization: Bearer " + text
}

func tokenFile(t *testing.T) string { return filepath.Join(t.TempDir(), "tokens.json") }

func TestARequestWithoutATokenIsRefusedEverywhereButAtTheProbes(t *testing.T) {
	path := tokenFile(t)
	token := bearer(t, path, tokens.Token{})
	fake := dspextest.NewFake(t)
	url := serve(t, fake.Client(), gateway.Config{Tokens: path})
	for _, c := range []struct{ method, path string }{
		{"POST", "/v1/jobs"}, {"POST", "/v1/sessions/bob/jobs"}, {"GET", "/v1/jobs/x"}, {"DELETE", "/v1/jobs/x"}, {"GET", "/v1/jobs/x/events"},
		{"GET", "/v1/sessions"}, {"GET", "/v1/sessions/bob"}, {"GET", "/v1/health"}, {"GET", "/v1/stats"}, {"GET", "/metrics"}, {"GET", "/openapi.json"}, {"GET", "/"}, {"OPTIONS", "/v1/jobs"},
	} {
		for _, header := range []string{"X-None: 1", "Authorization: Basic abc", "Authorization: Bearer ", "Authorization: Bearer dspex_abcdefgh_X", token + "x"} {
			body := ""
			if c.method == "POST" {
				body = `{"command":"echo"}`
			}
			a := send(t, c.method, url+c.path, body, header)
			if a.StatusCode != 401 || a.body["code"] != "token_required" || !strings.HasPrefix(a.Header.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("%s %s %.24s: %d %s", c.method, c.path, header, a.StatusCode, a.text)
			}
		}
	}
	for _, probe := range []string{"/livez", "/readyz"} {
		if a := send(t, "GET", url+probe, ""); a.StatusCode != 200 {
			t.Errorf("%s: %d", probe, a.StatusCode)
		}
	}
	if jobs := fake.Jobs(); len(jobs) > 0 {
		t.Errorf("%+v ran", jobs)
	}
	if a := send(t, "POST", url+"/v1/jobs", `{"command":"echo"}`, token); a.StatusCode != 200 {
		t.Errorf("with the token: %d %s", a.StatusCode, a.text)
	}
}

func TestARevokedTokenIsRefusedWithoutARestart(t *testing.T) {
	path := tokenFile(t)
	token := bearer(t, path, tokens.Token{})
	url := serve(t, dspextest.NewFake(t).Client(), gateway.Config{Tokens: path})
	if a := send(t, "GET", url+"/v1/stats", "", token); a.StatusCode != 200 {
		t.Fatalf("%d %s", a.StatusCode, a.text)
	}
	all, err := tokens.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := tokens.Revoke(path, all[0].ID); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { return send(t, "GET", url+"/v1/stats", "", token).StatusCode == 401 })
}

func TestWhatOperatorsDoNeedsTheirRole(t *testing.T) {
	path := tokenFile(t)
	call, operate := bearer(t, path, tokens.Token{}), bearer(t, path, tokens.Token{Role: tokens.Operate})
	// The gateway's user may publish to the operators' subjects alone.
	broker := natstest.Run(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "fake", Password: "pw"}, {Username: "gw", Password: "pw", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Allow: []string{"dspex.rpc.admin.>"}}}}}
	})
	nc, err := nats.Connect(broker.ClientURL(), nats.UserInfo("fake", "pw"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	fake, err := natstest.NewFake(t.Context(), nc)
	if err != nil {
		t.Fatal(err)
	}
	client, err := dspex.Connect(t.Context(), broker.ClientURL(), dspex.WithNATS(nats.UserInfo("gw", "pw")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	url := serve(t, client, gateway.Config{Tokens: path})
	for _, c := range []struct{ path, body string }{
		{"/v1/jobs", `{"command":"set_lm","args":{"model":"m"}}`},
		{"/v1/jobs", `{"command":"cleanup_session","args":{"session_id":"bob"}}`},
	} {
		if a := send(t, "POST", url+c.path, c.body, call); a.StatusCode != 403 || a.body["code"] != "role_required" {
			t.Errorf("%s as call: %d %s", c.body, a.StatusCode, a.text)
		}
		if a := send(t, "POST", url+c.path, c.body, operate); a.StatusCode != 200 {
			t.Errorf("%s as operate: %d %s", c.body, a.StatusCode, a.text)
		}
	}
	for _, body := range []string{`{"command":"shutdown"}`, `{"command":"push_program","args":{}}`, `{"command":"configure_lm","args":{"model":"m"}}`} {
		for _, at := range []string{"/v1/jobs", "/v1/jobs?wait=false"} {
			if a := send(t, "POST", url+at, body, call); a.StatusCode != 403 || a.body["code"] != "role_required" {
				t.Errorf("%s as call: %d %s", body, a.StatusCode, a.text)
			}
		}
	}
	for _, body := range []string{`{"command":"erase_session"}`, `{"command":"import_session","args":{}}`, `{"command":"shutdown"}`} {
		if a := send(t, "POST", url+"/v1/sessions/bob/jobs", body, call); a.StatusCode != 403 || a.body["code"] != "role_required" {
			t.Errorf("%s as call: %d %s", body, a.StatusCode, a.text)
		}
	}
	if a := send(t, "GET", url+"/metrics", "", call); a.StatusCode != 403 {
		t.Errorf("metrics as call: %d", a.StatusCode)
	}
	if a := send(t, "GET", url+"/metrics", "", operate); a.StatusCode != 200 {
		t.Errorf("metrics as operate: %d", a.StatusCode)
	}
	if n := len(fake.Jobs()); n != 2 {
		t.Errorf("%d jobs ran", n)
	}
}

func TestATenantsTokenReachesItsOwnAlone(t *testing.T) {
	path := tokenFile(t)
	own, acme := bearer(t, path, tokens.Token{}), bearer(t, path, tokens.Token{Tenant: "acme"})
	first, second := dspextest.NewFake(t), dspextest.NewFake(t)
	url := serve(t, first.Client(), gateway.Config{Tokens: path, Tenants: map[string]*dspex.Client{"acme": second.Client()}})
	body := `{"command":"predict","args":{"question":"of one"}}`
	send(t, "POST", url+"/v1/sessions/bob/jobs", body, own, "Idempotency-Key: k1", asEvents)
	for _, at := range []string{"/v1/jobs/k1?session=bob", "/v1/jobs/k1/events?session=bob"} {
		if a := send(t, "GET", url+at, "", own); a.StatusCode != 200 || !strings.Contains(a.text, "of one") {
			t.Errorf("%s of its own: %d %s", at, a.StatusCode, a.text)
		}
		if a := send(t, "GET", url+at, "", acme); a.StatusCode != 404 || a.body["code"] != "job_unknown" {
			t.Errorf("%s of another: %d %s", at, a.StatusCode, a.text)
		}
	}
	// The same id and body of another tenant is another job.
	send(t, "POST", url+"/v1/sessions/bob/jobs", body, acme, "Idempotency-Key: k1", asEvents)
	if len(first.Jobs()) != 1 || len(second.Jobs()) != 1 {
		t.Errorf("%+v %+v", first.Jobs(), second.Jobs())
	}
	later := bearer(t, path, tokens.Token{Tenant: "none"})
	await(t, func() bool { return send(t, "GET", url+"/v1/stats", "", later).body["code"] == "tenant_unknown" })
}

func TestATokenForSomeSessionsReachesNoOthers(t *testing.T) {
	path := tokenFile(t)
	bob := bearer(t, path, tokens.Token{Sessions: "bob-", Role: tokens.Operate})
	fake := dspextest.NewFake(t)
	url := serve(t, fake.Client(), gateway.Config{Tokens: path})
	for _, c := range []struct{ method, path, body, key string }{
		{"POST", "/v1/sessions/ann-1/jobs", `{"command":"echo"}`, ""},
		{"POST", "/v1/sessions/bob/jobs", `{"command":"echo"}`, ""},
		{"POST", "/v1/sessions/ann-1/jobs?wait=false", `{"command":"echo"}`, ""},
		{"POST", "/v1/jobs", `{"command":"echo"}`, "ann-k"},
		{"POST", "/v1/jobs", `{"command":"cleanup_session","args":{"session_id":"ann-1"}}`, ""},
		{"GET", "/v1/jobs/x?session=ann-1", "", ""},
		{"GET", "/v1/jobs/x/events?session=ann-1", "", ""},
		{"GET", "/v1/jobs/ann-k", "", ""},
		{"DELETE", "/v1/jobs/x?session=ann-1", "", ""},
	} {
		headers := []string{bob}
		if c.key != "" {
			headers = append(headers, "Idempotency-Key: "+c.key)
		}
		if a := send(t, c.method, url+c.path, c.body, headers...); a.StatusCode != 403 || a.body["code"] != "session_denied" {
			t.Errorf("%s %s %s: %d %s", c.method, c.path, c.body, a.StatusCode, a.text)
		}
	}
	if jobs := fake.Jobs(); len(jobs) > 0 {
		t.Errorf("%+v ran", jobs)
	}
	for _, at := range []string{"/v1/sessions/bob-1/jobs", "/v1/jobs"} {
		a := send(t, "POST", url+at, `{"command":"echo"}`, bob)
		if a.StatusCode != 200 || !strings.HasPrefix(a.Header.Get("Dspex-Job"), "bob-") {
			t.Errorf("%s: %d %v %s", at, a.StatusCode, a.Header, a.text)
		}
	}
}

func TestATokenAboveItsRateIsRefusedWithATime(t *testing.T) {
	path := tokenFile(t)
	slow, other := bearer(t, path, tokens.Token{Rate: 0.01}), bearer(t, path, tokens.Token{})
	url := serve(t, dspextest.NewFake(t).Client(), gateway.Config{Tokens: path})
	if a := send(t, "GET", url+"/v1/stats", "", slow); a.StatusCode != 200 {
		t.Errorf("%d %s", a.StatusCode, a.text)
	}
	if a := send(t, "GET", url+"/v1/stats", "", slow); a.StatusCode != 429 || a.Header.Get("Retry-After") == "" {
		t.Errorf("%d %v %s", a.StatusCode, a.Header, a.text)
	}
	if a := send(t, "GET", url+"/v1/stats", "", other); a.StatusCode != 200 {
		t.Errorf("another token: %d %s", a.StatusCode, a.text)
	}
}

func TestNoPageOfAnotherOriginGetsPermission(t *testing.T) {
	path := tokenFile(t)
	token := bearer(t, path, tokens.Token{})
	for _, cfg := range []gateway.Config{{}, {Tokens: path}} {
		url := serve(t, dspextest.NewFake(t).Client(), cfg)
		for _, method := range []string{"OPTIONS", "GET", "POST"} {
			body := ""
			if method == "POST" {
				body = `{"command":"echo"}`
			}
			a := send(t, method, url+"/v1/jobs", body, token, "Origin: https://evil.example", "Access-Control-Request-Method: POST")
			for name := range a.Header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s: %s", method, name)
				}
			}
			if a.StatusCode < 400 {
				t.Errorf("%s: %d", method, a.StatusCode)
			}
		}
	}
}

func TestOnlyWithTokensAnAddressIsOpenToOthers(t *testing.T) {
	path := tokenFile(t)
	bearer(t, path, tokens.Token{})
	if err := (gateway.Config{Listen: "0.0.0.0:0", Tokens: path}).Check(); err != nil {
		t.Error(err)
	}
	if err := (gateway.Config{Listen: "0.0.0.0:0"}).Check(); err == nil {
		t.Error("it may listen without tokens")
	}
	if err := (gateway.Config{Tokens: path + "x"}).Check(); err == nil || !strings.Contains(err.Error(), "--tokens") {
		t.Errorf("a file that is not there: %v", err)
	}
}

// running serves on a listener as the program does, and returns its URL.
func running(t *testing.T, cfg gateway.Config) string {
	t.Helper()
	registry := prometheus.NewRegistry()
	cfg.Listen = "127.0.0.1:0"
	g, err := gateway.New(dspextest.NewFake(t).Client(), cfg, registry)
	if err != nil {
		t.Fatal(err)
	}
	l, err := cfg.Open()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Serve(ctx, l, registry, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return cfg.URL(l)
}

func TestHeadersAreBoundedInSizeAndTime(t *testing.T) {
	url := running(t, gateway.Config{HeaderTime: 50 * time.Millisecond})
	if a := send(t, "GET", url+"/livez", "", "X-Large: "+strings.Repeat("x", 32<<10)); a.StatusCode != 431 {
		t.Errorf("large headers: %d", a.StatusCode)
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: localhost\r\n")
	if rest, err := io.ReadAll(bufio.NewReader(conn)); err != nil || strings.Contains(string(rest), " 200 ") {
		t.Errorf("headers that never end: %q %v", rest, err)
	}
}

func TestTLSFilesMakeItHTTPS(t *testing.T) {
	cert, key, pool := certificate(t)
	url := running(t, gateway.Config{Cert: cert, Key: key})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	answer, err := client.Get(url + "/livez")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != 200 || answer.TLS == nil || answer.TLS.Version < tls.VersionTLS12 {
		t.Errorf("%d %+v", answer.StatusCode, answer.TLS)
	}
	client.CloseIdleConnections()
}

func certificate(t *testing.T) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	of := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, of, of, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return cert, key, pool
}
