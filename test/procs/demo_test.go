package procs

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheDemoShowsWhatItPromises(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), filepath.Join(bin, "dspex"), "demo").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{`{"answer":"echo: What is the capital of France?"}`, `"qa_bot"`, "(turn 3): Now summarize our entire conversation",
		"SIGKILL of its worker", "SIGKILL of the whole host", "worker demo-2/", "state restored", "My name is Ada Respond with",
		"attempt 2, after the second that the model requested", ": open", "resource_error breaker_open", "waits unharmed", ": closed", "replayed as",
		"jobs.jsonl has 2000 lines", "are done", "2000 jobs: 2000 succeeded", "in the order of the jobs, each once", "in a second attempt"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the demo does not show %q", want)
		}
	}
	if strings.Contains(string(out), "\x1b[") {
		t.Error("colours although nobody looks at a terminal")
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
}
