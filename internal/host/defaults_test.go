package host

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
)

func TestAHostsDefaultsBoundAttemptsRetriesAndTheDeadlineOfCalls(t *testing.T) {
	file := filepath.Join(t.TempDir(), "defaults.json")
	if err := os.WriteFile(file, []byte(`{"resize": {"max_retries": 0}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	defaults, err := Defaults{Timeout: 2 * time.Minute, File: file}.Load()
	if err != nil {
		t.Fatal(err)
	}
	rules := &lifecycle.Config{Defaults: defaults, CheckoutTimeout: 5 * time.Second, MaxPayload: 1 << 20}
	for body, want := range map[string]time.Duration{
		`{"command": "resize"}`:                                     125 * time.Second,
		`{"command": "resize", "options": {"timeout": "1s"}}`:       6 * time.Second,
		`{"command": "resize", "options": {"deadline": "1s"}}`:      time.Second,
		`{"command": "echo", "options": {"max_retries": 0}}`:        125 * time.Second,
		`{"command": "echo"}`:                                       12*time.Minute + 3100*time.Millisecond + 5*time.Second,
		`{"command": "echo", "options": {"unknown": "is refused"}}`: 0,
	} {
		j := &lifecycle.Job{Env: jobs.Envelope{Mode: jobs.ModeCall, Type: jobs.JSON}, Data: []byte(body)}
		j.Weigh(rules)
		if got := j.Bound(); got != want {
			t.Errorf("%s: %v, want %v", body, got, want)
		}
	}
}
