//go:build mixed

package procs

import (
	"flag"
	"os"
	"os/exec"
	"testing"

	"github.com/dspex/dspex/internal/programtest"
)

// earlier is the commit whose programs run beside those of this tree: the last one before the job's life moved into a core of its
// own. A release moves it to the release before.
var earlier = flag.String("earlier", "904c181", "the `commit` whose programs run beside those of this tree")

// buildEarlier makes the programs of the earlier commit and returns their directory.
func buildEarlier(t *testing.T) string {
	t.Helper()
	source, out := t.TempDir(), t.TempDir()
	unpack := exec.Command("sh", "-c", `git -C ../.. archive "$1" >"$0/source.tar" && tar -xf "$0/source.tar" -C "$0"`, source, *earlier)
	if text, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("the sources of commit %s must be in the clone's history (git fetch --unshallow brings it): %v\n%s", *earlier, err, text)
	}
	t.Chdir(source)
	if err := programtest.Build(out, "./cmd/dispatcher", "./cmd/worker-host"); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestHostsOfTheEarlierVersionAndOfThisOneShareTheirSessions restarts hosts in turn, as an upgrade and its way back do: each
// session moves from the earlier version to this one and back under load.
func TestHostsOfTheEarlierVersionAndOfThisOneShareTheirSessions(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	old, now := buildEarlier(t), bin
	t.Chdir(here)
	for name, dispatcher := range map[string]string{"earlier dispatcher": old, "this dispatcher": now} {
		t.Run(name, func(t *testing.T) {
			d := deploy(t)
			d.startFrom(dispatcher, "dispatcher", "d1", "--partitions", "8")
			was, is := d.hostFrom(old, "was").awaitReady(), d.hostFrom(now, "is").awaitReady()
			l := startLoad(t, d.client(), 32)
			defer l.end()
			for range 2 {
				l.awaitJobs("was", 50)
				was.stop() // all sessions move to this version
				l.awaitJobs("is", 100)
				was = d.hostFrom(old, "was").awaitReady()
				l.awaitJobs("was", 50)
				is.stop() // and all of them back
				l.awaitJobs("was", 100)
				is = d.hostFrom(now, "is").awaitReady()
			}
			l.awaitJobs("is", 50)
			l.end()
			t.Logf("%d jobs in 32 sessions, 4 restarts", 2*l.calls.Load())
		})
	}
}

// TestThisVersionTakesOverFromAKilledHostOfTheEarlierOne does the same with kills: what a host left behind in the middle of its
// jobs is read by the other version.
func TestThisVersionTakesOverFromAKilledHostOfTheEarlierOne(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	old, now := buildEarlier(t), bin
	t.Chdir(here)
	for name, order := range map[string][2]string{"earlier, then this": {old, now}, "this, then earlier": {now, old}} {
		t.Run(name, func(t *testing.T) {
			d := deploy(t)
			d.startFrom(now, "dispatcher", "d1", "--partitions", "8")
			first := d.hostFrom(order[0], "first").awaitReady()
			l := startLoad(t, d.client(), 32, withRetries)
			defer l.end()
			l.awaitJobs("first", 200)
			d.hostFrom(order[1], "second").awaitReady()
			l.awaitJobs("second", 50)
			first.signal(os.Kill)
			l.awaitJobs("second", 500)
			l.end()
			t.Logf("%d jobs in 32 sessions, one kill", 2*l.calls.Load())
		})
	}
}

func (d *deployment) hostFrom(dir, name string) *process {
	d.t.Helper()
	return d.startFrom(dir, "worker-host", name, "--engine", "stub", "--workers", "2", "--slots", "8", "--checkout-timeout", "1m")
}
