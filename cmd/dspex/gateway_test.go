package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/daemon"
	"github.com/dspex/dspex/internal/natstest"
)

func TestGatewayServesUntilItIsInterrupted(t *testing.T) {
	broker := natstest.Run(t)
	natstest.StartFake(t, broker)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	out, said := io.Pipe()
	var trouble lines
	a := &cli.App{In: strings.NewReader(""), Out: said, Err: &trouble, Env: func(string) string { return "" }}
	ended := make(chan int, 1)
	go func() {
		status := execute(ctx, a, []string{"gateway", "--server", broker.ClientURL(), "--listen", "127.0.0.1:0"})
		said.Close()
		ended <- status
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if err != nil || !ok {
		t.Fatalf("it said %q, %v: %s", line, err, trouble.String())
	}
	answer, err := http.Post(url+"/v1/sessions/bob/jobs", "application/json", strings.NewReader(`{"command":"predict","args":{"question":"Why?"}}`))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(answer.Body)
	answer.Body.Close()
	if err != nil || answer.StatusCode != 200 || !strings.Contains(string(text), `"answer":"Why?"`) {
		t.Errorf("%d %s %v", answer.StatusCode, text, err)
	}
	interrupt()
	if status := <-ended; status != daemon.ExitOK {
		t.Errorf("status %d: %s", status, trouble.String())
	}
}
