package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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
	testscript.Main(m, map[string]func(){"worker-host": func() { os.Exit(run()) }})
}

// TestScripts runs testdata/script/*.txtar. URL is a broker with the streams of a deployment, NOBODY_URL an address where nothing
// listens.
func TestScripts(t *testing.T) {
	deployed := deployment(t)
	nobody := natstest.Nobody(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("URL", deployed.ClientURL())
			env.Setenv("NOBODY_URL", nobody)
			env.Setenv("HOME", env.WorkDir)
			return nil
		},
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"fails": programtest.Fails},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

func deployment(t *testing.T) *server.Server {
	t.Helper()
	s := natstest.Run(t, func(o *server.Options) { o.JetStreamMaxStore = 64 << 30 })
	js, err := jetstream.New(natstest.Connect(t, s))
	if err == nil {
		_, err = stream.Ensure(t.Context(), js, stream.Settings{Partitions: 4})
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// start runs the program until end; ready is what it prints on standard output, status how it ended.
func start(t *testing.T, args ...string) (ready string, end func() (status int)) {
	t.Helper()
	return startLogging(t, t.Output(), args...)
}

func startLogging(t *testing.T, log io.Writer, args ...string) (ready string, end func() (status int)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		around := &daemon.Surroundings{Out: w, Err: log, Env: func(string) string { return "" }}
		ended <- program().Execute(ctx, around, args)
		w.Close()
	}()
	line, _ := bufio.NewReader(r).ReadString('\n')
	go func() { _, _ = io.Copy(io.Discard, r) }()
	return strings.TrimSpace(line), func() int { cancel(); return <-ended }
}

// addresses takes the addresses of metrics out of a log.
type addresses chan string

func (a addresses) Write(b []byte) (int, error) {
	if url := regexp.MustCompile(`http://\S+/metrics`).Find(b); url != nil {
		a <- string(url)
	}
	return len(b), nil
}

func TestItSaysThatItLivesUntilItIsAskedToEnd(t *testing.T) {
	s := deployment(t)
	beats, err := natstest.Connect(t, s).SubscribeSync("dspex.hb.h1")
	if err != nil {
		t.Fatal(err)
	}
	metrics := make(addresses, 1)
	ready, end := startLogging(t, io.MultiWriter(t.Output(), metrics), "--server", s.ClientURL(), "--name", "h1", "--engine", "stub", "--workers", "1", "--slots", "3", "--metrics", "127.0.0.1:0")
	if ready != "ready h1" {
		t.Errorf("it said %q", ready)
	}
	next := func() (beat struct {
		Host     string
		Capacity int
		Leaving  bool
	}) {
		m, err := beats.NextMsg(time.Minute)
		if err == nil {
			err = json.Unmarshal(m.Data, &beat)
		}
		if err != nil {
			t.Fatal(err)
		}
		return beat
	}
	if b := next(); b.Host != "h1" || b.Capacity != 3 || b.Leaving {
		t.Errorf("heartbeat %+v", b)
	}
	page := programtest.Scrape(t, <-metrics)
	for _, want := range []string{"dspex_pool_size 1\n", "dspex_pool_slots 3\n", `dspex_workers{state="idle"} 1`, `dspex_breaker_state{breaker="pool.h1"} 0`, `dspex_pool_errors_total{error_category="timeout"} 0`, "process_open_fds "} {
		if !strings.Contains(page, want) {
			t.Errorf("metrics without %s:\n%s", want, page)
		}
	}
	check := func(name string) int {
		around := &daemon.Surroundings{Out: io.Discard, Err: t.Output(), Env: func(string) string { return "" }}
		return program().Execute(t.Context(), around, []string{"health", "--server", s.ClientURL(), "--name", name})
	}
	if here, elsewhere := check("h1"), check("h2"); here != 0 || elsewhere != 1 {
		t.Errorf("health: status %d of h1, %d of h2, which does not run", here, elsewhere)
	}
	if status := end(); status != 0 {
		t.Errorf("it ended with status %d", status)
	}
	for b := next(); !b.Leaving; b = next() {
	}
}

func TestImportsAreRepeatedOrSeparatedByCommas(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"one", "two", "three"} {
		code := "import pathlib\npathlib.Path(__file__).with_suffix('.imported').touch()\n"
		if err := os.WriteFile(filepath.Join(dir, name+".py"), []byte(code), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ready, end := start(t, "--server", deployment(t).ClientURL(), "--name", "h2", "--engine", "stub", "--workers", "1",
		"--path", dir, "--sandbox-write", dir, "--import", "one,two", "--import", "three")
	if status := end(); ready != "ready h2" || status != 0 {
		t.Errorf("it said %q and ended with status %d", ready, status)
	}
	seen, err := filepath.Glob(filepath.Join(dir, "*.imported"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, path := range seen {
		names = append(names, strings.TrimSuffix(filepath.Base(path), ".imported"))
	}
	if want := []string{"one", "three", "two"}; !slices.Equal(names, want) {
		t.Errorf("imported %v, want %v", names, want)
	}
}

func TestWithoutPoolingNoWorkerIsStarted(t *testing.T) {
	s := deployment(t)
	ready, end := start(t, "--server", s.ClientURL(), "--name", "h1", "--pooling-enabled=false", "--python", "/nowhere/python")
	if ready != "pooling is disabled h1" {
		t.Errorf("it said %q", ready)
	}
	if status := end(); status != daemon.ExitOK {
		t.Errorf("status %d", status)
	}
}
