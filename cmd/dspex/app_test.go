package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/daemon"
)

// serving runs `dspex` with these arguments until its ready line. It returns the address in that line and the other output; end ends it and
// checks its exit status.
func serving(t *testing.T, args ...string) (url string, hints *lines, end func()) {
	t.Helper()
	ctx, interrupt := context.WithCancel(t.Context())
	t.Cleanup(interrupt)
	out, in := io.Pipe()
	hints = &lines{}
	a := &cli.App{In: strings.NewReader(""), Out: in, Err: hints, Env: func(string) string { return "" }}
	ended := make(chan int, 1)
	go func() {
		status := execute(ctx, a, args)
		in.Close()
		ended <- status
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if err != nil || !ok {
		t.Fatalf("the first line must be `ready ADDRESS`, got %q, %v: %s", line, err, hints.String())
	}
	return url, hints, func() {
		interrupt()
		if status := <-ended; status != daemon.ExitOK {
			t.Errorf("status %d: %s", status, hints.String())
		}
	}
}

func TestEchoLMSaysWhereItListensAndEndsWhenInterrupted(t *testing.T) {
	url, _, end := serving(t, "echo-lm", "--script", "status=418")
	answer, err := http.Post(url+"/chat/completions", "application/json", strings.NewReader(`{"model":"echo","messages":[{"role":"user","content":"hi"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != 418 {
		t.Errorf("the script was not followed: status %d", answer.StatusCode)
	}
	end()
}

func TestDevServesMetricsAndCommandsOfOnesOwn(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "shop.py"), []byte("from dspex_worker import command\n\n\n@command\ndef price():\n    return 42\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	url, hints, end := serving(t, "dev", "--engine", "stub", "--listen", "127.0.0.1:0", "--workers", "1", "--metrics", "127.0.0.1:0", "--import", "shop", "--path", dir)
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := nc.Request("dspex.rpc.anonymous", []byte(`{"command":"price"}`), 30*time.Second); err != nil || !strings.Contains(string(m.Data), `"result":42`) {
		t.Errorf("%v %+v", err, m)
	}
	nc.Close()
	address := regexp.MustCompile(`(?m)^metrics (http://\S+)$`).FindStringSubmatch(hints.String())
	if address == nil {
		t.Fatalf("no address of the metrics: %s", hints.String())
	}
	answer, err := http.Get(address[1])
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	page, err := io.ReadAll(answer.Body)
	for _, metric := range []string{"dspex_pool_requests_total 1", "dspex_hosts 1", "dspex_workers{", "go_goroutines "} {
		if err != nil || !strings.Contains(string(page), "\n"+metric) {
			t.Errorf("no %s (%v)", metric, err)
		}
	}
	served := regexp.MustCompile(`(?m)^http (http://127\.0\.0\.1:\d+)$`).FindStringSubmatch(hints.String())
	if served == nil {
		t.Fatalf("no address of HTTP: %s", hints.String())
	}
	over, err := http.Post(served[1]+"/v1/jobs", "application/json", strings.NewReader(`{"command":"price"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer over.Body.Close()
	if text, err := io.ReadAll(over.Body); err != nil || !strings.Contains(string(text), `"result":42`) {
		t.Errorf("over HTTP: %d %s %v", over.StatusCode, text, err)
	}
	if !strings.Contains(hints.String(), "\ndashboard "+served[1]+"/dashboard\n") {
		t.Errorf("no address of the dashboard: %s", hints.String())
	}
	models, err := http.Get(served[1] + "/v1/models")
	if err != nil {
		t.Fatal(err)
	}
	defer models.Body.Close()
	if text, err := io.ReadAll(models.Body); err != nil || !strings.Contains(string(text), `"id":"echo"`) {
		t.Errorf("the profile is no model: %d %s %v", models.StatusCode, text, err)
	}
	end()
}

// TestDevHasTheTimesOfTheFile: a call waits for a slot as long as checkout_timeout of the file allows.
func TestDevHasTheTimesOfTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dspex.yaml")
	if err := os.WriteFile(file, []byte("pool_size: 1\nslots: 1\noverflow: 0\ncheckout_timeout: 50\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	url, _, end := serving(t, "dev", "--config", file, "--engine", "stub", "--listen", "127.0.0.1:0", "--http", "none", "--grace", "10ms")
	defer end()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	busy := &nats.Msg{Subject: "dspex.rpc.anonymous", Reply: nc.NewInbox(), Header: nats.Header{"Dspex-Job": {"busy"}}, Data: []byte(`{"command":"sleep","args":{"ms":60000}}`)}
	if err := nc.PublishMsg(busy); err != nil {
		t.Fatal(err)
	}
	for runs := false; !runs; {
		m, err := nc.Request("dspex.rpc.jobs.get", []byte(`{"job":"busy"}`), 30*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		runs = strings.Contains(string(m.Data), `"running"`)
	}
	m, err := nc.Request("dspex.rpc.anonymous", []byte(`{"command":"ping"}`), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(m.Data), "no worker was free within 50ms") {
		t.Errorf("%s", m.Data)
	}
}

// lines keeps what is written by one goroutine and read by another.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestWithoutPoolingCallsAreRefusedAndPublishedJobsWait(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dspex.yaml")
	if err := os.WriteFile(file, []byte("pooling_enabled: false\npool_size: 4\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	url, _, end := serving(t, "dev", "--config", file, "--listen", "127.0.0.1:0", "--http", "none")
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for _, subject := range []string{"dspex.rpc.anonymous", "dspex.rpc.session.s", "dspex.rpc.health.check"} {
		body := `{"command":"ping"}`
		if strings.Contains(subject, "health") {
			body = ``
		}
		m, err := nc.Request(subject, []byte(body), 30*time.Second)
		if err != nil || !strings.Contains(string(m.Data), `"pool_not_available"`) || !strings.Contains(string(m.Data), "Pool not available: pooling_enabled is false") {
			t.Errorf("%s: %v %+v", subject, err, m)
		}
	}
	published := &nats.Msg{Subject: "dspex.session.s", Header: nats.Header{"Dspex-Job": {"waits"}}, Data: []byte(`{"command":"ping"}`)}
	if m, err := nc.RequestMsg(published, 30*time.Second); err != nil || !strings.Contains(string(m.Data), `"seq"`) {
		t.Errorf("published: %v %+v", err, m)
	}
	if m, err := nc.Request("dspex.rpc.jobs.get", []byte(`{"session":"s","job":"waits"}`), 30*time.Second); err != nil || !strings.Contains(string(m.Data), `"queued"`) {
		t.Errorf("it does not wait: %v %+v", err, m)
	}
	end()
}
