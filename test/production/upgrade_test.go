//go:build mixed

package production

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/programtest"
)

// before is the last commit whose nats.conf had one account, and whose keys and subjects had no tenants.
const before = "2a96192"

// buildEarlier makes the programs of that commit and returns their directory, and that of its sources.
func buildEarlier(t *testing.T) (programs, source string) {
	t.Helper()
	source, programs = t.TempDir(), t.TempDir()
	unpack := exec.Command("sh", "-c", `git -C ../.. archive "$1" >"$0/source.tar" && tar -xf "$0/source.tar" -C "$0"`, source, before)
	if text, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("the sources of commit %s must be in the clone's history (git fetch --unshallow brings it): %v\n%s", before, err, text)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(source)
	defer t.Chdir(here)
	if err := programtest.Build(programs, "./cmd/dispatcher", "./cmd/worker-host"); err != nil {
		t.Fatal(err)
	}
	return programs, source
}

// TestADeploymentOfAnEarlierVersionMovesIntoAccounts follows docs/operations.md, "From one account to accounts".
func TestADeploymentOfAnEarlierVersionMovesIntoAccounts(t *testing.T) {
	fresh(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	earlier, source := buildEarlier(t)
	store := t.TempDir()
	read := func(path string) *server.Options {
		o, err := server.ProcessConfigFile(path)
		if err != nil {
			t.Fatal(err)
		}
		o.Host, o.Port, o.HTTPPort, o.StoreDir, o.NoLog, o.NoSigs = "127.0.0.1", -1, 0, store, true, true
		return o
	}
	s := natstest.Run(t, func(into *server.Options) { *into = *read(filepath.Join(source, "nats.conf")) })
	run := func(dir, user, program string, more []string, args ...string) *process {
		t.Helper()
		return startIn(t, append(append(environ(user), "NATS_URL="+s.ClientURL(), "DSPEX_ACCOUNTS="), more...), filepath.Join(dir, program), args...)
	}
	host := func(dir, name string) *process {
		return run(dir, "host", "worker-host", nil, "--name", name, "--engine", "stub", "--workers", "1", "--slots", "8")
	}
	connect := func(user string) *dspex.Client {
		t.Helper()
		return dspex.New(natstest.Connect(t, s, nats.UserInfo(user, password(user)), nats.CustomInboxPrefix("_INBOX.client")))
	}
	d, h := run(earlier, "dispatcher", "dispatcher", nil, "--name", "d1", "--partitions", "8"), host(earlier, "h1")
	<-d.ready
	old := connect("client")
	var jobs []dspex.JobRef
	want := map[dspex.JobRef]string{}
	publish := func(session string, n int) {
		t.Helper()
		job, err := old.Submit(ctx, session, "append", dspex.Args{"x": n}, dspex.WithJobID(fmt.Sprintf("%s-%d", session, n)))
		if err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, job.Job)
		var all []string
		for i := range n + 1 {
			all = append(all, fmt.Sprint(i))
		}
		want[job.Job] = `"list":[` + strings.Join(all, ",") + "]"
	}
	sessions := 12
	for n := range 3 { // these have outcomes and states
		for i := range sessions {
			publish(fmt.Sprintf("s%d", i), n)
		}
	}
	for _, job := range jobs {
		if _, err := old.Wait(ctx, job); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := old.Execute(ctx, "dead", "boom", dspex.Args{"retryable": true}, dspex.WithMaxRetries(1), dspex.WithBackoff(dspex.Delays(time.Millisecond))); err == nil {
		t.Fatal("it is to fail")
	}
	if err := h.end(); err != nil {
		t.Fatal(err)
	}
	for n := 3; n < 8; n++ { // these wait
		for i := range sessions {
			publish(fmt.Sprintf("s%d", i), n)
		}
	}
	for _, lane := range []dspex.Lane{dspex.LaneInteractive, dspex.LaneBatch} {
		job, err := old.SubmitAnonymous(ctx, lane, "echo", dspex.Args{"x": string(lane)}, dspex.WithJobID("waits-"+string(lane)))
		if err != nil {
			t.Fatal(err)
		}
		jobs, want[job.Job] = append(jobs, job.Job), `"x":"`+string(lane)+`"`
	}
	old.Close()
	if err := d.end(); err != nil {
		t.Fatal(err)
	}

	path := withTenants(t, "acme")
	s.Shutdown()
	s.WaitForShutdown()
	s = natstest.Run(t, func(into *server.Options) { *into = *read(path) })
	accounts := []string{"DSPEX_ACCOUNTS=true"}
	d = run(bin, "dispatcher", "dispatcher", accounts, "--name", "d1")
	h2, h3 := host(bin, "h1"), host(bin, "h2")
	for _, p := range []*process{h2, h3, d} {
		if line := <-p.ready; !strings.HasPrefix(line, "ready ") {
			t.Fatalf("it said %q", line)
		}
	}
	c, other := connect("client"), connect("acme")
	for _, job := range jobs {
		r, err := c.Wait(ctx, job)
		if got := strings.ReplaceAll(string(r.Result), " ", ""); err != nil || !strings.Contains(got, want[job]) {
			t.Errorf("%v: %s, %v; expected %s", job, got, err, want[job])
		}
		if info, err := other.GetJob(ctx, job); err == nil {
			t.Errorf("another tenant sees %v: %+v", job, info)
		}
	}
	for i := range sessions {
		r, err := c.Execute(ctx, fmt.Sprintf("s%d", i), "append", dspex.Args{"x": 8})
		if got := strings.ReplaceAll(string(r.Result), " ", ""); err != nil || !strings.Contains(got, "[0,1,2,3,4,5,6,7,8]") {
			t.Errorf("session s%d: %s, %v", i, got, err)
		}
	}
	operator := dspex.New(natstest.Connect(t, s, nats.UserInfo("operator", password("operator")), nats.CustomInboxPrefix("_INBOX.operator")))
	letters := 0
	for l, err := range operator.Admin().DeadLetters(ctx, dspex.DeadLetterFilter{}) {
		if err != nil || l.Job.Session != "dead" {
			t.Errorf("%+v, %v", l, err)
		}
		letters++
	}
	if letters != 1 {
		t.Errorf("%d dead letters", letters)
	}
	t.Logf("%d jobs, %d of them waited across the change, in %d sessions", len(jobs), 5*sessions+2, sessions)
}
