package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheAPIIsAsItsDescriptionSays has schemathesis make requests of the description, valid ones and others: no answer is an error of
// the server, and each is one that the description has. What a command requires of its arguments is not part of it, so a request that
// fits the description may be refused.
func TestTheAPIIsAsItsDescriptionSays(t *testing.T) {
	dev, err := startDev(nil, "", "--test-mode", "mock_adapter", "--http", "none")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Stop() })
	web, token := startGateway(t, dev.url, "--role", "operate")
	cmd := exec.Command(filepath.Join(filepath.Dir(clientsPython(t)), "st"), "run", web+"/openapi.json", "--header", "Authorization: Bearer "+token, "--no-color", "--seed", "1",
		"--phases", "examples,fuzzing", "--max-examples", "30", "--exclude-checks", "positive_data_acceptance,ignored_auth", "--suppress-health-check", "all", "--generation-database", "none")
	cmd.Dir = t.TempDir()
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Tested: 9") {
		t.Errorf("%v\n%s", err, out)
	}
}
