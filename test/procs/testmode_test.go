package procs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dspex/dspex"
)

// TestHostsInTestModeServeWithoutPython: the mode comes from the environment, nothing that is called python is on the path, and a
// session goes on when its host is killed.
func TestHostsInTestModeServeWithoutPython(t *testing.T) {
	d := deploy(t)
	scenario := filepath.Join(t.TempDir(), "scenario.json")
	if err := os.WriteFile(scenario, []byte(`{"rules": [{"command": "predict", "where": {"question": "Who?"}, "outputs": {"answer": "Ada"}}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	dispatcher := d.start("dispatcher", "d1")
	hosts := map[string]*process{}
	for _, name := range []string{"h1", "h2"} {
		cmd := exec.Command(filepath.Join(bin, "worker-host"), "--server", d.url, "--name", name, "--workers", "2", "--scenario", scenario)
		cmd.Env = []string{"TEST_MODE=mock_adapter", "PATH=" + t.TempDir(), "HOME=" + t.TempDir()}
		hosts[name] = launch(t, "worker-host "+name, cmd)
	}
	hosts["h1"].awaitReady()
	hosts["h2"].awaitReady()
	dispatcher.awaitReady()
	c := d.client()
	first, err := c.Execute(t.Context(), "s", "update_session_data", dspex.Args{"operation": "set", "key": "k", "value": "kept"})
	if err != nil {
		t.Fatal(err)
	}
	hosts[first.Host].signal(os.Kill)
	reply, err := c.Execute(t.Context(), "s", "get_session_data", nil)
	switch {
	case err != nil:
		t.Errorf("err must be nil, got %v; %s on %s (%s), %v", err, reply.Result, reply.Host, reply.SessionState, err)
	case !strings.Contains(string(reply.Result), "kept"):
		t.Errorf(`must hold: strings.Contains(string(reply.Result), "kept"); %s on %s (%s), %v`, reply.Result, reply.Host, reply.SessionState, err)
	case reply.Host == first.Host:
		t.Errorf("reply.Host must not be first.Host; %s on %s (%s), %v", reply.Result, reply.Host, reply.SessionState, err)
	case reply.SessionState != dspex.SessionRestored:
		t.Errorf("reply.SessionState must be dspex.SessionRestored, got %v; %s on %s (%s), %v", reply.SessionState, reply.Result, reply.Host, reply.SessionState, err)
	}
	if reply, err = c.Execute(t.Context(), "s", "predict", dspex.Args{"question": "Who?"}); err != nil || reply.Outputs()["answer"] != "Ada" || reply.Engine != "mock" {
		t.Errorf("%s by %s, %v", reply.Result, reply.Engine, err)
	}
	if log := hosts["h1"].said(); !strings.Contains(log, "test_mode") {
		t.Errorf("the log does not name the mode:\n%s", log)
	}
}
