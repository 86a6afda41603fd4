package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/daemon"
	"github.com/dspex/dspex/internal/natstest"
)

// TestTheGatewayReadsTheFileOfSettings: its section, and the broker's address beside it; a flag wins, and faults have their place.
func TestTheGatewayReadsTheFileOfSettings(t *testing.T) {
	broker := natstest.Run(t)
	natstest.StartFake(t, broker).Handle("list_programs", func(natstest.FakeJob) (any, *natstest.FakeError) { return map[string]any{"programs": []any{}}, nil })
	file := filepath.Join(t.TempDir(), "dspex.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("server: " + broker.ClientURL() + "\nlisten: 127.0.0.1:1\npool_size: 3\ngateway:\n  listen: 127.0.0.1:0\n  models: [fast]\n  max_body: 2048\n")
	for _, flags := range [][]string{nil, {"--models", "slow"}} {
		url, _, end := serving(t, append([]string{"gateway", "--config", file}, flags...)...)
		answer, err := http.Get(url + "/v1/models")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if want := map[bool]string{true: `"fast"`, false: `"slow"`}[flags == nil]; err != nil || !strings.Contains(string(text), want) || strings.Contains(string(text), `"fast"`) != (flags == nil) {
			t.Errorf("%v: %s %v", flags, text, err)
		}
		end()
	}
	write("gateway:\n  listen: 0.0.0.0:80\n  max_requests: 0\n  tls_crt: x\n")
	var out lines
	a := &cli.App{In: strings.NewReader(""), Out: io.Discard, Err: &out, Env: func(string) string { return "" }}
	status := execute(t.Context(), a, []string{"gateway", "--config", file})
	for _, want := range []string{file + ":2:3: gateway.listen must be an address of the loopback interface", file + ":3:17: gateway.max_requests must be 1 to", "did you mean gateway.tls_cert?"} {
		if status != daemon.ExitUsage || !strings.Contains(out.String(), want) {
			t.Errorf("status %d, no %q in\n%s", status, want, out.String())
		}
	}
}

// until waits for something that comes by itself.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(time.Minute); !is(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("there must be " + what)
		}
	}
}

// TestAGatewayOutlivesTheRotationOfItsPassword: the broker gets another one first, the gateway's file later.
func TestAGatewayOutlivesTheRotationOfItsPassword(t *testing.T) {
	var options *server.Options
	broker := natstest.Run(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "fake", Password: "fake"}, {Username: "gw", Password: "first"}}
		options = o
	})
	nc, err := nats.Connect(broker.ClientURL(), nats.UserInfo("fake", "fake"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := natstest.NewFake(t.Context(), nc); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file, password := filepath.Join(dir, "dspex.yaml"), filepath.Join(dir, "password")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(password, "first\n")
	write(file, "server: "+broker.ClientURL()+"\nuser: gw\npassword_file: "+password+"\ngateway:\n  listen: 127.0.0.1:0\n")
	url, log, end := serving(t, "gateway", "--config", file)
	defer end()
	status := func() int {
		answer, err := http.Get(url + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		return answer.StatusCode
	}
	if got := status(); got != http.StatusOK {
		t.Fatalf("before: %d", got)
	}
	options = options.Clone()
	options.Users = []*server.User{{Username: "fake", Password: "fake"}, {Username: "gw", Password: "second"}}
	if err := broker.ReloadOptions(options); err != nil {
		t.Fatal(err)
	}
	until(t, "several refusals", func() bool { return strings.Count(log.String(), "msg=broker_error") > 4 }) // two of them end a connection for good by default
	if got := status(); got != http.StatusServiceUnavailable {
		t.Errorf("with the earlier password: %d", got)
	}
	write(password, "second\n")
	until(t, "a gateway that is ready", func() bool { return status() == http.StatusOK })
	for _, want := range []string{"msg=broker_away", "msg=broker_back"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no %s:\n%s", want, log.String())
		}
	}
}

func TestGatewayServesUntilItIsInterrupted(t *testing.T) {
	broker := natstest.Run(t)
	natstest.StartFake(t, broker)
	url, _, end := serving(t, "gateway", "--server", broker.ClientURL(), "--listen", "127.0.0.1:0")
	answer, err := http.Post(url+"/v1/sessions/bob/jobs", "application/json", strings.NewReader(`{"command":"predict","args":{"question":"Why?"}}`))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(answer.Body)
	answer.Body.Close()
	if err != nil || answer.StatusCode != 200 || !strings.Contains(string(text), `"answer":"Why?"`) {
		t.Errorf("%d %s %v", answer.StatusCode, text, err)
	}
	end()
}
