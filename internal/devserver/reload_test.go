package devserver

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/pyenv"
)

const module = `import time
from dspex_worker import command

@command
def version(until: str = "") -> dict:
    import os
    while until and not os.path.exists(until):
        time.sleep(0.01)
    return {"v": "VERSION"}
`

// TestChangedCodeServesAfterAReloadAndWhatRunsEndsWhereItBegan changes a module twice, the first time while a job runs in it, the second
// time into something that cannot be imported.
func TestChangedCodeServesAfterAReloadAndWhatRunsEndsWhereItBegan(t *testing.T) {
	dir, gate := t.TempDir(), filepath.Join(t.TempDir(), "gate")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "mine.py"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(strings.ReplaceAll(module, "VERSION", "one"))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ready, ended := make(chan string, 1), make(chan error, 1)
	type change struct {
		file string
		err  error
	}
	changes := make(chan change)
	cfg := Config{Engine: "stub", Listen: "127.0.0.1:0", Workers: 1, Slots: 2, Modules: pyenv.Modules{Names: []string{"mine"}, Paths: []string{dir}}, Reload: true}
	cfg.Sandbox.Level = "none"
	cfg.Ready = func(i Info) { ready <- i.URL }
	cfg.Reloaded = func(file string, err error) { changes <- change{filepath.Base(file), err} }
	go func() { ended <- Run(ctx, cfg) }()
	nc, err := nats.Connect(<-ready)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	ask := func(args string) string {
		m, err := nc.Request(contract.RPCAnonymous, []byte(`{"command":"version","args":`+args+`}`), time.Minute)
		if err != nil {
			return err.Error()
		}
		return string(m.Data)
	}
	expect := func(args, want string) {
		t.Helper()
		if got := ask(args); !strings.Contains(got, `"v":"`+want+`"`) {
			t.Errorf("got %s, want version %s", got, want)
		}
	}
	expect(`{}`, "one")
	running := make(chan string, 1)
	go func() { running <- ask(`{"until":"` + gate + `"}`) }()
	for h := ""; !strings.Contains(h, `"running":1`); {
		m, err := nc.Request(contract.SubjectControl+"dev.beat", nil, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		h = string(m.Data)
	}
	write(strings.ReplaceAll(module, "VERSION", "another"))
	if c := <-changes; c.file != "mine.py" || c.err != nil {
		t.Fatalf("%+v", c)
	}
	expect(`{}`, "another")
	write("def broken(:\n")
	if c := <-changes; c.err == nil || !strings.Contains(c.err.Error(), "SyntaxError") {
		t.Fatalf("%+v", c)
	}
	expect(`{}`, "another")
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := <-running; !strings.Contains(got, `"v":"one"`) {
		t.Errorf("the job that ran: %s", got)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestWhatIsNotTheUsersIsNotWatched(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{"a.py", "sub/b.py", "sub/data.json", ".git/c.py", "venv/pyvenv.cfg", "venv/d.py", "node_modules/e.py"} {
		full := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	seen := stamps([]string{dir})
	if len(seen) != 2 || differing(seen, seen) != "" {
		t.Errorf("%v", seen)
	}
	if err := os.Remove(filepath.Join(dir, "sub/b.py")); err != nil {
		t.Fatal(err)
	}
	if got := differing(seen, stamps([]string{dir})); filepath.Base(got) != "b.py" {
		t.Errorf("got %q", got)
	}
}
