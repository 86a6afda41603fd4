// Package dashboard walks through the dashboard in a real browser, with the programs as people run them.
package dashboard

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/programtest"
)

var pictures = flag.String("pictures", "", "write the pictures of docs/dashboard.md into this folder, after half a minute of work")

// node_modules of the end-to-end tests.
const modules = "../e2e/node/node_modules"

// chromium is the browser of this machine.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("chromium is not installed: the tests of the dashboard need it (Debian: apt-get install chromium)")
	return ""
}

// programs are dspex and worker-host, built for this test.
func programs(t *testing.T) (dspexProgram, host string) {
	t.Helper()
	dir := t.TempDir()
	if err := programtest.Build(dir, "../../cmd/dspex", "../../cmd/worker-host"); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "dspex"), filepath.Join(dir, "worker-host")
}

func start(t *testing.T, program string, args ...string) string {
	t.Helper()
	cmd := programtest.Guarded(program, args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	running, err := programtest.Start(cmd)
	if err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	t.Cleanup(func() {
		if running.Stop(); t.Failed() {
			t.Logf("%s: %s", filepath.Base(program), said.String())
		}
	})
	return running.Ready
}

func TestResultsAreFresh(t *testing.T) { programtest.Fresh(t, "../..") }

func TestTheDashboardInABrowser(t *testing.T) {
	browser := chromium(t)
	if _, err := os.Stat(filepath.Join(modules, "playwright-core")); err != nil {
		t.Fatalf("the packages of the browser tests are not installed (%v): run `make setup`", err)
	}
	program, host := programs(t)
	broker := start(t, program, "dev", "--listen", "127.0.0.1:0", "--http", "none", "--test-mode", "mock_adapter", "--scenario", "scenario.json", "--quiet")
	start(t, host, "--server", broker, "--name", "h2", "--test-mode", "mock_adapter", "--scenario", "scenario.json", "--workers", "3")
	file := filepath.Join(t.TempDir(), "tokens.json")
	token, err := exec.Command(program, "tokens", "new", "--file", file, "--role", "operate").Output()
	if err != nil {
		t.Fatal(err)
	}
	web := start(t, program, "gateway", "--server", broker, "--listen", "127.0.0.1:0", "--tokens", file)
	c, err := dspex.Connect(t.Context(), broker)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	paths := fill(t, c)
	args := []string{"browser.mjs", browser, web, strings.TrimSpace(string(token)), paths}
	if *pictures != "" {
		open(t, web, strings.TrimSpace(string(token)))
		work(t, c, 130*time.Second)
		args = append(args, *pictures)
		ctx, end := context.WithCancel(t.Context())
		var going sync.WaitGroup
		going.Go(func() { workUntil(ctx, c) })
		defer going.Wait()
		defer end()
	}
	cmd := exec.Command("node", args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var f found
	if err := json.Unmarshal(out, &f); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("milliseconds: %v; bytes: %v", f.Took, f.Size)
	f.check(t)
}

type found struct {
	Wide, Violations, Console, Foreign, Unreached, Steps []string
	Size, Took                                           map[string]int
}

func (f found) check(t *testing.T) {
	t.Helper()
	for name, list := range map[string][]string{"wider than the window": f.Wide, "violation": f.Violations, "console": f.Console, "request to another server": f.Foreign, "keyboard": f.Unreached} {
		for _, text := range list {
			t.Errorf("%s: %s", name, text)
		}
	}
	for page, size := range f.Size {
		if size > 100_000 {
			t.Errorf("the page %s has %d bytes", page, size)
		}
	}
	if len(f.Size) < 14 {
		t.Errorf("only %d pages were opened", len(f.Size))
	}
	for _, step := range []string{"signed in", "skipped to the content", "every page", "figures move", "paused and resumed", "shown: session", "shown: letter", "shown: job", "replayed", "reset", "cancelled", "signed out"} {
		if !slices.Contains(f.Steps, step) {
			t.Errorf("not done: %s", step)
		}
	}
}

// fill makes what the pages show, and returns their addresses by name.
func fill(t *testing.T, c *dspex.Client) string {
	t.Helper()
	ctx := t.Context()
	if _, err := c.Execute(ctx, "alice", "predict", dspex.Args{"question": "of alice"}, dspex.WithJobID("first")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Execute(ctx, "alice", "create_program", dspex.Args{"id": "qa_bot", "signature": "question -> answer"}); err != nil {
		t.Fatal(err)
	}
	failed := dspex.JobRef{Session: "bob", ID: "report-7"}
	if _, err := c.Submit(ctx, failed.Session, "predict", dspex.Args{"question": "worse"}, dspex.WithJobID(failed.ID), dspex.WithMaxRetries(2)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Wait(ctx, failed); err == nil {
		t.Fatal("the job did not fail")
	}
	running := dspex.JobRef{Session: "carol", ID: "long-1"}
	if _, err := c.Submit(ctx, running.Session, "predict", dspex.Args{"question": "hang"}, dspex.WithJobID(running.ID), dspex.WithTimeout(10*time.Minute)); err != nil {
		t.Fatal(err)
	}
	jobs := func(yield func(dspex.BatchJob, error) bool) {
		for i := range 60 {
			question := "of a batch"
			if i%20 == 0 {
				question = "worse"
			}
			if !yield(dspex.BatchJob{Command: "predict", Args: dspex.Args{"question": question}, Options: map[string]any{"max_retries": 0}}, nil) {
				return
			}
		}
	}
	if _, err := c.SubmitBatch(ctx, "evening", jobs); err != nil {
		t.Fatal(err)
	}
	if _, err := c.WaitBatch(ctx, "evening"); err != nil {
		t.Fatal(err)
	}
	letter := uint64(0)
	for l, err := range c.Admin().DeadLetters(ctx, dspex.DeadLetterFilter{Session: failed.Session}) {
		if err != nil {
			t.Fatal(err)
		}
		letter = l.Sequence
	}
	job := func(ref dspex.JobRef) string {
		return "/dashboard/job?" + url.Values{"id": {ref.ID}, "session": {ref.Session}}.Encode()
	}
	text, err := json.Marshal(map[string]string{
		"overview": "/dashboard", "jobs": "/dashboard/jobs", "kept": "/dashboard/kept", "sessions": "/dashboard/sessions", "hosts": "/dashboard/hosts", "worker": "/dashboard/worker?name=dev/0", "breakers": "/dashboard/breakers",
		"letters": "/dashboard/letters", "logs": "/dashboard/logs", "models": "/dashboard/models", "batches": "/dashboard/batches", "batch": "/dashboard/batch?id=evening", "session": "/dashboard/session?id=alice",
		"job": job(dspex.JobRef{Session: "alice", ID: "first"}), "failed": job(failed), "running": job(running), "letter": fmt.Sprintf("/dashboard/letter?seq=%d", letter),
		"nothing": "/dashboard/kept?state=expired",
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// work runs jobs for the pictures.
func work(t *testing.T, c *dspex.Client, d time.Duration) {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	workUntil(ctx, c)
}

func workUntil(ctx context.Context, c *dspex.Client) {
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				question := "of a user"
				switch {
				case (n+i)%37 == 0:
					question = "worse"
				case (n+i)%53 == 0:
					question = "slow"
				}
				_, err := c.Execute(ctx, fmt.Sprintf("user_%03d", (n*7+i*13)%48), "predict", dspex.Args{"question": question}, dspex.WithMaxRetries(1))
				if err != nil && errors.Is(err, dspex.ErrInvalid) {
					return
				}
				select {
				case <-ctx.Done():
				case <-time.After(time.Duration(60+20*((n/40)%4)) * time.Millisecond):
				}
			}
		})
	}
	all.Wait()
}

// open looks at the dashboard, so that it watches from now on.
func open(t *testing.T, web, token string) {
	t.Helper()
	ctx, end := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, "node", "-e", `const r = await fetch(process.argv[1] + "/dashboard/live?part=overview", {headers: {authorization: "Bearer " + process.argv[2]}}); for await (const _ of r.body);`, "--input-type=module", web, token)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(); _ = cmd.Wait() })
}
