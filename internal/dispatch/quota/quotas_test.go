package quota

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dspex/dspex/internal/jobs"
)

func TestAQuotaCountsWhatWasMeasuredAndWhatCameSince(t *testing.T) {
	q := of(Bounds{"acme": {Jobs: 4}, "*": {Jobs: 2, Sessions: 10}, "free": {}})
	admitted := func(tenant string, n int) (passed int) {
		t.Helper()
		for range n {
			full, bad := q.Admit(tenant)
			if bad == nil {
				passed++
			} else {
				refused(t, bad)
			}
			if full {
				t.Error("the tenant has no sessions")
			}
		}
		return passed
	}
	for tenant, want := range map[string]int{"acme": 4, "globex": 2, "free": 10} {
		if got := admitted(tenant, 10); got != want {
			t.Errorf("%s: %d of 10 calls passed, want %d", tenant, got, want)
		}
	}
	// A measurement during which no call came replaces what was counted.
	q.measured(q.measuring(), map[string]int64{"acme": 3})
	if got := admitted("acme", 10); got != 1 {
		t.Errorf("beside 3 jobs %d calls passed", got)
	}
	// What is accepted while one is under way is not in it.
	q.measured(q.measuring(), map[string]int64{})
	before := q.measuring()
	if got := admitted("acme", 3); got != 3 {
		t.Errorf("%d passed", got)
	}
	q.measured(before, map[string]int64{})
	if got := admitted("acme", 10); got != 1 {
		t.Errorf("with 3 calls on their way %d more passed", got)
	}
	q.ofLocked("globex").sessions = 10
	q.measured(q.measuring(), nil)
	if full, bad := q.Admit("globex"); !full || bad != nil {
		t.Errorf("%v %v: only calls of known sessions may pass", full, bad)
	}
}

func TestAFileOfQuotasIsReadOrSaysWhatIsWrong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "quotas.json")
	read := func(text string) (Bounds, error) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return Read(path)
	}
	q, err := read(`{"*": {"jobs": 100}, "acme": {"jobs": 5, "sessions": 7, "batches": 2, "batch_jobs": 9}}`)
	if err != nil || q.of("acme") != (Bound{Jobs: 5, Sessions: 7, Batches: 2, BatchJobs: 9}) || q.of("globex") != (Bound{Jobs: 100}) {
		t.Errorf("%+v %v", q, err)
	}
	for text, want := range map[string]string{
		`{"acme": {"job": 5}}`: `unknown field "job"`, `{"acme": {"jobs": -5}}`: "jobs of acme must be 0 (not set) or more, got -5", `{"acme": {"batches": -1}}`: "batches of acme must be 0", `{"a.b": {}}`: `got "a.b"`, `[]`: "must be like", ``: "must be like",
	} {
		if _, err := read(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func refused(t *testing.T, bad *jobs.Error) {
	t.Helper()
	if bad.Code != jobs.CodeQuota {
		t.Errorf("the code must be %s, got %s", jobs.CodeQuota, bad.Code)
	}
	if !bad.Retryable || bad.RetryAfter <= 0 {
		t.Errorf("the refusal must be retryable after a time, got %v, %v", bad.Retryable, bad.RetryAfter)
	}
	if n := bad.Number(); n != 429 {
		t.Errorf("the number must be 429, got %d", n)
	}
}
