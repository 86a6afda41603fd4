package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dspex/dspex/internal/daemon"
	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/programtest"
	"github.com/dspex/dspex/internal/stream"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"dispatcher": func() { os.Exit(run()) }})
}

// TestScripts runs testdata/script/*.txtar. EIGHT_URL is a broker whose deployment has 8 partitions, LOCKED_URL one that requires
// a password, BARE_URL one without JetStream, SMALL_URL one with little room, NOBODY_URL an address where nothing listens.
func TestScripts(t *testing.T) {
	eight := natstest.Run(t, roomy)
	js, err := jetstream.New(natstest.Connect(t, eight))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Ensure(t.Context(), js, stream.Settings{Partitions: 8}); err != nil {
		t.Fatal(err)
	}
	locked := natstest.Run(t, func(o *server.Options) { o.Username, o.Password = "dispatcher", "hunter2" })
	bare := natstest.Run(t, func(o *server.Options) { o.JetStream = false })
	small := natstest.Run(t, func(o *server.Options) { o.JetStreamMaxStore = 1 << 30 })
	nobody := natstest.Nobody(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("EIGHT_URL", eight.ClientURL())
			env.Setenv("LOCKED_URL", locked.ClientURL())
			env.Setenv("BARE_URL", bare.ClientURL())
			env.Setenv("SMALL_URL", small.ClientURL())
			env.Setenv("NOBODY_URL", nobody)
			return nil
		},
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"fails": programtest.Fails},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// roomy has room for streams of the default sizes.
func roomy(o *server.Options) { o.JetStreamMaxStore = 64 << 30 }

func TestItServesUntilItIsAskedToEnd(t *testing.T) {
	s := natstest.Run(t, roomy)
	ctx, end := context.WithCancel(t.Context())
	defer end()
	r, w := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		around := &daemon.Surroundings{Out: io.Discard, Err: w, Env: func(string) string { return "" }}
		ended <- program().Execute(ctx, around, []string{"--server", s.ClientURL(), "--name", "d1", "--partitions", "4", "--metrics", "127.0.0.1:0"})
		w.Close()
	}()
	lines := bufio.NewScanner(r)
	metrics := ""
	for lines.Scan() && !strings.Contains(lines.Text(), "leads") {
		t.Log(lines.Text())
		if url := regexp.MustCompile(`http://\S+/metrics`).FindString(lines.Text()); url != "" {
			metrics = url
		}
	}
	go func() { _, _ = io.Copy(io.Discard, r) }()
	if _, err := natstest.Connect(t, s).Request("dspex.rpc.stats.get", nil, time.Minute); err != nil {
		t.Errorf("a dispatcher that leads does not answer: %v", err)
	}
	if _, err := natstest.Connect(t, s).Request("dspex.rpc.stats.get", []byte("[]"), time.Minute); err != nil {
		t.Error(err)
	}
	page := programtest.Scrape(t, metrics)
	for _, line := range []string{"dspex_leader 1\n", `dspex_endpoint_requests_total{endpoint="stats"} 2`, `dspex_endpoint_errors_total{endpoint="stats"} 1`, "go_goroutines "} {
		if !strings.Contains(page, line) {
			t.Errorf("the page does not have %q:\n%s", line, page)
		}
	}
	health := &daemon.Surroundings{Out: io.Discard, Err: t.Output(), Env: func(string) string { return "" }}
	if status := program().Execute(t.Context(), health, []string{"health", "--server", s.ClientURL(), "--name", "d1"}); status != 0 {
		t.Errorf("health: status %d", status)
	}
	end()
	if status := <-ended; status != 0 {
		t.Errorf("it ended with status %d", status)
	}
}
