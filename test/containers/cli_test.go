package containers

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/jsm.go"
	"github.com/nats-io/jsm.go/natscontext"
)

// operator makes a context of the nats command line, by the library that the command line itself uses.
func (d *deployment) operator(t *testing.T) *natscontext.Context {
	t.Helper()
	url, err := d.nats.PortEndpoint(t.Context(), "4222/tcp", "nats")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	c, err := natscontext.New("operator", false, natscontext.WithServerURL(url), natscontext.WithUser("operator"),
		natscontext.WithPassword(password("operator")), natscontext.WithInboxPrefix("_INBOX.operator"))
	if err == nil {
		err = c.Save("operator")
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// dspexReadsTheContext: the reader of the dspex program is one of our own.
func dspexReadsTheContext(ctx context.Context, t *testing.T, d *deployment) {
	d.operator(t)
	bin := filepath.Join(t.TempDir(), "dspex")
	if out, err := exec.CommandContext(ctx, "go", "-C", "../..", "build", "-o", bin, "./cmd/dspex").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.CommandContext(ctx, bin, "--context", "operator", "health", "--output", "json")
	cmd.Env = append(os.Environ(), "NATS_URL=nats://127.0.0.1:1", "NATS_USER=nobody")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), `"healthy"`) {
		t.Errorf("%v\n%s", err, out)
	}
}

// anOperatorLooksButDoesNotTouch: what the nats command line shows of streams and consumers, and what it may not do to them.
func anOperatorLooksButDoesNotTouch(t *testing.T, d *deployment) {
	nc, err := d.operator(t).Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	m, err := jsm.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	names, err := m.StreamNames(nil)
	for _, want := range []string{"DSPEX_JOBS", "DSPEX_ANON", "DSPEX_DLQ", "DSPEX_EVENTS", "DSPEX_AUDIT", "KV_dspex_assign", "KV_dspex_sessions", "KV_dspex_results", "KV_dspex_control", "KV_dspex_batches", "OBJ_dspex_objects"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not among the streams %v, %v", want, names, err)
		}
	}
	if consumers, err := m.ConsumerNames("DSPEX_JOBS"); err != nil || len(consumers) != 8 {
		t.Errorf("%d consumers, %v; expected one for each partition", len(consumers), err)
	}
	s, err := m.LoadStream("KV_dspex_assign")
	if err != nil {
		t.Fatal(err)
	}
	before, err := s.State()
	if err != nil {
		t.Fatal(err)
	}
	for what, do := range map[string]func() error{"purge": func() error { return s.Purge() }, "delete": s.Delete} {
		if err := do(); err == nil {
			t.Errorf("an operator may %s the assignments", what)
		}
	}
	if after, err := s.State(); err != nil || after.Msgs != before.Msgs || after.Msgs == 0 {
		t.Errorf("%d assignments, then %d, %v", before.Msgs, after.Msgs, err)
	}
}
