package procs

import (
	"testing"
	"time"

	"github.com/dspex/dspex"
)

// hostState waits until the host is in the state.
func hostState(t *testing.T, c *dspex.Client, name string, want dspex.HostState) dspex.HostInfo {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		hosts, err := c.Admin().Hosts(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range hosts.Hosts {
			if h.Host == name && h.State == want {
				return h
			}
		}
		if time.Now().After(end) {
			t.Fatalf("%s is not %s: %s", name, want, hosts.Raw)
		}
	}
}

func TestADrainedHostGivesEverythingAwayUnderLoadStaysEmptyAcrossARestartAndComesBack(t *testing.T) {
	d := deploy(t)
	d.start("dispatcher", "d1", "--partitions", "8")
	h1 := d.host("h1").awaitReady()
	d.host("h2").awaitReady()
	c := d.client()
	l := startLoad(t, c, 32)
	defer l.end()
	l.awaitJobs("h1", 50)
	if err := c.Admin().DrainHost(t.Context(), "h1"); err != nil {
		t.Fatal(err)
	}
	if h := hostState(t, c, "h1", dspex.HostDrained); h.Partitions != 0 {
		t.Errorf("%+v", h)
	}
	l.awaitJobs("h2", 100)
	h1.stop()
	d.host("h1").awaitReady()
	hostState(t, c, "h1", dspex.HostDrained)
	l.awaitJobs("h2", 100)
	if h := hostState(t, c, "h1", dspex.HostDrained); h.TotalRequests != 0 {
		t.Errorf("the drained host ran %d jobs", h.TotalRequests)
	}
	if err := c.Admin().ResumeHost(t.Context(), "h1"); err != nil {
		t.Fatal(err)
	}
	hostState(t, c, "h1", dspex.HostServing)
	l.awaitJobs("h1", 50)
	l.end()
	t.Logf("%d jobs in 32 sessions", 2*l.calls.Load())
}
