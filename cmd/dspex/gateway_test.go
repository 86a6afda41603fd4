package main

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/dspex/dspex/internal/natstest"
)

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
