package dashboard

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dspex/dspex"
)

// reports is a module of a user whose command waits where it must not: the event loop of its worker stands still.
const reports = `"""Reports from a server that does not answer."""
import time

from dspex_worker import command


def fetch(url: str) -> str:
    while True:  # until it answers
        time.sleep(0.01)


@command
async def report(url: str) -> str:
    return fetch(url)
`

// TestTheStackOfAHungWorkerIsOnItsPage has a Python worker of `dspex dev` hang.
func TestTheStackOfAHungWorkerIsOnItsPage(t *testing.T) {
	browser := chromium(t)
	python := os.Getenv("DSPEX_TEST_PYTHON")
	if python == "" {
		t.Fatal("set DSPEX_TEST_PYTHON to the Python of `make setup`")
	}
	program, _ := programs(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "reports.py"), []byte(reports), 0o600); err != nil {
		t.Fatal(err)
	}
	broker := start(t, program, "dev", "--listen", "127.0.0.1:0", "--http", "none", "--engine", "stub", "--python", python, "--path", dir, "--import", "reports", "--quiet")
	web := start(t, program, "gateway", "--server", broker, "--listen", "127.0.0.1:0")
	c, err := dspex.Connect(t.Context(), broker)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	work := func() {
		for n := range 12 {
			if _, err := c.Execute(t.Context(), fmt.Sprintf("user_%d", n%4), "echo", dspex.Args{"text": "before"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for !shows(t, web+"/dashboard/jobs", "echo") { // nothing is kept before the first viewer
		work()
	}
	work()
	_, err = c.Execute(t.Context(), "user_1", "report", dspex.Args{"url": "https://reports.example/today"}, dspex.WithMaxRetries(0))
	hung, ok := errors.AsType[*dspex.Error](err)
	if !ok || hung.Code != "worker_hung" || !strings.Contains(hung.Traceback, "in fetch") {
		t.Fatalf("the worker did not hang: %+v", err)
	}
	page := web + "/dashboard/worker?" + url.Values{"name": {hung.Worker}}.Encode()
	for !shows(t, page, "in fetch") { // the gateway does not know of the attempt yet
	}
	args := []string{"hung.mjs", browser, page}
	if *pictures != "" {
		for !shows(t, page, "<dt>Runs now</dt><dd>0</dd>") { // an event of the first jobs may have been missed: the gateway looks after half a minute
		}
		args = append(args, filepath.Join(*pictures, "hung.png"))
	}
	cmd := exec.Command("node", args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var f struct {
		Heading, Stack   string
		Wide, Violations []string
	}
	if err := json.Unmarshal(out, &f); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !strings.HasPrefix(f.Heading, "Hung") {
		t.Errorf("the heading must begin with Hung, got %q", f.Heading)
	}
	if !strings.Contains(f.Stack, "in fetch") || !strings.Contains(f.Stack, "reports.py") {
		t.Errorf("the stack must name fetch of reports.py, got %q", f.Stack)
	}
	if len(f.Wide)+len(f.Violations) > 0 {
		t.Errorf("too wide: %v; violations: %v", f.Wide, f.Violations)
	}
}

// shows reports whether a page of the dashboard has a text.
func shows(t *testing.T, page, text string) bool {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, page, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	all, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: status %d, %v", page, response.StatusCode, err)
	}
	return strings.Contains(string(all), text)
}
