package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
