package e2e

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestTheEvaluationOfThePageRuns takes the program of docs/batches.md as it stands there.
func TestTheEvaluationOfThePageRuns(t *testing.T) {
	page, err := os.ReadFile("../../docs/batches.md")
	if err != nil {
		t.Fatal(err)
	}
	m := fence.FindStringSubmatch(string(page))
	if m == nil {
		t.Fatal("the page has no program")
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-eu", "-c", strings.ReplaceAll(m[2], "bin/dspex", binary))
	cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), "NATS_URL="+url)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"1000 jobs: 1000 succeeded", "1000 of 1000 are right"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
}
