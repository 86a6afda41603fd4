package production

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/natstest"
)

// writer is a session whose list grows by one number a call.
type writer struct {
	session string
	mu      sync.Mutex
	said    map[int]string // number -> the list in the reply
}

func (w *writer) job(n int) string { return fmt.Sprintf("n%d", n) }

// goOn appends until the context ends.
func (w *writer) goOn(ctx context.Context, c *dspex.Client) {
	for n := 0; ctx.Err() == nil; {
		r, err := c.Execute(ctx, w.session, "append", dspex.Args{"x": n}, dspex.WithJobID(w.job(n)))
		if err != nil {
			continue // the same number again
		}
		w.mu.Lock()
		w.said[n] = string(r.Result)
		w.mu.Unlock()
		n++
	}
}

// done is how many numbers were answered so far.
func (w *writer) done() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.said)
}

// reach waits until each writer has that many more answers, and returns how many each has.
func reach(t *testing.T, writers []*writer, more int) (have []int) {
	t.Helper()
	have = make([]int, len(writers))
	for i, w := range writers {
		have[i] = w.done() + more
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(3 * time.Minute); ; <-tick.C {
		if !slices.ContainsFunc(writers, func(w *writer) bool { return w.done() < have[slices.Index(writers, w)] }) {
			return have
		}
		if time.Now().After(end) {
			t.Fatal("the writers do not get on")
		}
	}
}

func emptyBroker(t *testing.T) *server.Server {
	t.Helper()
	o, err := server.ProcessConfigFile(config)
	if err != nil {
		t.Fatal(err)
	}
	return natstest.Run(t, shipped(o))
}

// service starts a dispatcher and two hosts.
func serving(t *testing.T, s *server.Server, names ...string) (all []*process) {
	t.Helper()
	at := func(user string) []string { return append(environ(user), "NATS_URL="+s.ClientURL()) }
	all = append(all, startIn(t, at("dispatcher"), "dispatcher", "--name", "d1", "--partitions", "8"))
	for _, name := range names {
		all = append(all, startIn(t, at("host"), "worker-host", "--name", name, "--engine", "stub", "--workers", "1", "--slots", "8"))
	}
	for _, p := range all {
		if line := <-p.ready; !strings.HasPrefix(line, "ready ") {
			t.Fatalf("it said %q", line)
		}
	}
	return all
}

func command(s *server.Server, user string, args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(bin, "dspex"), args...)
	cmd.Env = append(environ(user), "NATS_URL="+s.ClientURL())
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func clientOf(t *testing.T, s *server.Server) *dspex.Client {
	t.Helper()
	return dspex.New(natstest.Connect(t, s, nats.UserInfo("client", password("client")), nats.CustomInboxPrefix("_INBOX.client")))
}

// TestABackupThatIsMadeUnderLoadIsADeploymentAgain: everything is killed, the broker's store is gone, and each promise is kept for what
// was accepted before the backup began. What came later is there whole or not at all.
func TestABackupThatIsMadeUnderLoadIsADeploymentAgain(t *testing.T) {
	fresh(t)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	before := emptyBroker(t)
	processes := serving(t, before, "h1", "h2")
	c, dir := clientOf(t, before), filepath.Join(t.TempDir(), "copy")

	var writers []*writer
	var load sync.WaitGroup
	loaded, stop := context.WithCancel(ctx)
	defer stop()
	for i := range 6 {
		w := &writer{session: fmt.Sprintf("w%d", i), said: map[int]string{}}
		writers = append(writers, w)
		load.Go(func() { w.goOn(loaded, c) })
	}
	if _, err := c.Execute(ctx, "dead", "boom", dspex.Args{"retryable": true}, dspex.WithJobID("d1"), dspex.WithMaxRetries(0)); err == nil {
		t.Fatal("boom succeeded")
	}
	for n := range 5 { // behind what runs for longer than the test
		if n == 0 {
			if _, err := c.Submit(ctx, "queue", "sleep", dspex.Args{"ms": 600000}, dspex.WithJobID("long"), dspex.WithTimeout(20*time.Minute)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.Submit(ctx, "queue", "append", dspex.Args{"x": n}, dspex.WithJobID(fmt.Sprintf("n%d", n))); err != nil {
			t.Fatal(err)
		}
	}
	counted, err := c.Submit(ctx, "queue", "append", dspex.Args{"x": 5})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.SubmitAnonymous(ctx, dspex.LaneBatch, "sleep", dspex.Args{"ms": 600000}, dspex.WithJobID("anon-long"), dspex.WithTimeout(20*time.Minute)); err != nil {
		t.Fatal(err)
	}
	if r, err := c.ExecuteAnonymous(ctx, "echo", dspex.Args{"x": "kept"}, dspex.WithJobID("anon-done")); err != nil || !strings.Contains(string(r.Result), "kept") {
		t.Fatal(err)
	}
	promised := reach(t, writers, 20)
	if out, err := command(before, "backup", "backup", dir); err != nil || !strings.Contains(out, "DSPEX_JOBS") {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := command(before, "backup", "restore", dir); err == nil || !strings.Contains(out, "no dispatcher may run") {
		t.Errorf("a restore under a dispatcher: %v: %s", err, out)
	}
	if out, err := command(before, "operator", "backup", filepath.Join(t.TempDir(), "stolen")); err == nil {
		t.Errorf("an operator makes a backup: %s", out)
	}
	reach(t, writers, 20)
	if _, err := c.Execute(ctx, "late", "append", dspex.Args{"x": 0}); err != nil {
		t.Fatal(err)
	}
	stop()
	for _, p := range processes {
		_ = p.kill()
	}
	before.Shutdown()
	before.WaitForShutdown()
	load.Wait()

	after := emptyBroker(t)
	if out, err := command(after, "backup", "restore", dir); err != nil || !strings.Contains(out, "DSPEX_JOBS") {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := command(after, "backup", "restore", dir); err == nil || !strings.Contains(out, "must have none of dspex's streams") {
		t.Errorf("a second restore: %v: %s", err, out)
	}
	serving(t, after, "h3", "h4")
	c = clientOf(t, after)
	for i, w := range writers {
		w.check(ctx, t, c, promised[i])
	}
	if info, err := c.Cancel(ctx, dspex.JobRef{Session: "queue", ID: "long"}); err != nil || info.Status != dspex.JobCancelled {
		t.Errorf("what ran: %+v, %v", info, err)
	}
	for n := range 6 {
		id := fmt.Sprintf("n%d", n)
		if n == 5 {
			id = counted.Job.ID
		}
		r, err := c.Wait(ctx, dspex.JobRef{Session: "queue", ID: id})
		if want := numbers(n + 1); err != nil || listOf(string(r.Result)) != want {
			t.Errorf("job %s of the queue: %s, %v, want %s", id, r.Result, err, want)
		}
	}
	if info, err := c.Cancel(ctx, dspex.JobRef{ID: "anon-long"}); err != nil || info.Status != dspex.JobCancelled {
		t.Errorf("an anonymous job that ran: %+v, %v", info, err)
	}
	if r, err := c.Wait(ctx, dspex.JobRef{ID: "anon-done"}); err != nil || !strings.Contains(string(r.Result), "kept") {
		t.Errorf("an anonymous job's outcome: %s, %v", r.Result, err)
	}
	if _, err := c.Wait(ctx, dspex.JobRef{Session: "dead", ID: "d1"}); err == nil || !errors.Is(err, dspex.ErrPython) {
		t.Errorf("the outcome of what failed: %v", err)
	}
	if r, err := c.Execute(ctx, "late", "append", dspex.Args{"x": 1}); err != nil || r.SessionState != dspex.SessionReset {
		t.Errorf("a session from after the backup: %+v, %v", r, err)
	}
	if next, err := c.Submit(ctx, "queue", "append", dspex.Args{"x": 6}); err != nil || len(next.Job.ID) < len("q16777216") {
		t.Errorf("the next id that is counted is %+v, %v: an earlier one may come again", next, err)
	}
	letters := 0
	for _, err := range dspex.New(natstest.Connect(t, after, nats.UserInfo("operator", password("operator")), nats.CustomInboxPrefix("_INBOX.operator"))).Admin().DeadLetters(ctx, dspex.DeadLetterFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		letters++
	}
	if letters != 1 {
		t.Errorf("%d dead letters, want 1", letters)
	}
}

// check: all that was answered before the backup began is in the session's state and has the outcome that the client received. What else
// is in the state follows without a gap; each number is there once.
func (w *writer) check(ctx context.Context, t *testing.T, c *dspex.Client, promised int) {
	t.Helper()
	r, err := c.Execute(ctx, w.session, "append", dspex.Args{"x": -1}, dspex.WithTimeout(time.Minute))
	if err != nil {
		t.Errorf("%s: %v", w.session, err)
		return
	}
	list := listOf(string(r.Result))
	kept := strings.Count(list, ",")
	if list != strings.TrimSuffix(strings.TrimSuffix(numbers(kept), "]")+",", "[,")+"-1]" {
		t.Errorf("%s: the list is %s", w.session, list)
	}
	if kept < promised {
		t.Errorf("%s: %d numbers are there, %d were answered before the backup", w.session, kept, promised)
	}
	for n := range promised {
		got, err := c.Wait(ctx, dspex.JobRef{Session: w.session, ID: w.job(n)})
		if err != nil || listOf(string(got.Result)) != listOf(w.said[n]) {
			t.Errorf("%s: the outcome of %d is %s, %v, and was %s", w.session, n, got.Result, err, w.said[n])
		}
	}
	for n := promised; n < kept; n++ {
		if got, err := c.Wait(ctx, dspex.JobRef{Session: w.session, ID: w.job(n)}); err != nil || listOf(string(got.Result)) != numbers(n+1) {
			t.Errorf("%s: the outcome of %d is %s, %v", w.session, n, got.Result, err)
		}
	}
}

// listOf is the list in a result, without spaces.
func listOf(result string) string {
	result = strings.ReplaceAll(result, " ", "")
	from, to := strings.IndexByte(result, '['), strings.IndexByte(result, ']')
	if from < 0 || to < from {
		return result
	}
	return result[from : to+1]
}

// numbers is the list of the first n numbers.
func numbers(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprint(i))
	}
	return "[" + strings.Join(all, ",") + "]"
}
