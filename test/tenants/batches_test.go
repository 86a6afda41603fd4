package tenants

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// TestBatchesAreTheTenants uses the same id on both sides, and an id that one side has alone.
func TestBatchesAreTheTenants(t *testing.T) {
	both(t, func(t *testing.T, us string, mine, theirs client) {
		const shared = "same"
		own := "of_" + us
		jobs := []any{m{"command": "echo", "args": m{"x": us}}, m{"command": "append", "args": m{"x": us}, "session": "batch_shared"}}
		for _, id := range []string{shared, own} {
			mine.succeeds("dspex.rpc.batches.submit", m{"batch": id, "jobs": jobs})
			if got := mine.succeeds("dspex.rpc.batches.get", m{"batch": id, "wait_ms": 30000}); !strings.Contains(got, `"succeeded":2`) {
				t.Fatalf("%s: batch %s is %s", us, id, got)
			}
			got := mine.succeeds("dspex.rpc.batches.results", m{"batch": id})
			if strings.Count(got, `"x":"`+us+`"`) != 1 || strings.Contains(got, `"x":"`+other(us)+`"`) {
				t.Errorf("%s: the results are %s", us, got)
			}
		}
		for _, ask := range []string{"get", "results", "cancel", "erase"} {
			theirs.fails("batch_unknown", "dspex.rpc.batches."+ask, m{"batch": own})
		}
		if got := theirs.succeeds("dspex.rpc.batches.list", m{}); strings.Contains(got, own) {
			t.Errorf("%s is listed for another tenant: %s", own, got)
		}
		// What the other side uploads under its own name does not meet ours.
		theirs.succeeds("dspex.rpc.batches.upload", m{"batch": own, "from": 0, "jobs": []any{m{"command": "ping"}}})
		theirs.succeeds("dspex.rpc.batches.erase", m{"batch": own})
		if got := mine.succeeds("dspex.rpc.batches.get", m{"batch": own}); !strings.Contains(got, `"phase":"ended"`) {
			t.Errorf("%s: the batch is %s after another tenant has erased its own", us, got)
		}
	})
}

// TestJobsTogetherAreTheTenants uses the same ids on both sides.
func TestJobsTogetherAreTheTenants(t *testing.T) {
	both(t, func(t *testing.T, us string, mine, theirs client) {
		own := "together_of_" + us
		jobs := []any{m{"job": "same", "command": "append", "args": m{"x": us}, "session": "together"}, m{"job": own, "command": "append", "args": m{"x": us}, "session": "together"}, m{"job": own, "command": "sleep", "args": m{"ms": 100}, "session": "together_2"}}
		mine.succeeds("dspex.rpc.jobs.submit", m{"jobs": jobs})
		mine.succeeds("dspex.rpc.jobs.submit", m{"jobs": jobs})
		got := mine.succeeds("dspex.rpc.jobs.get", m{"session": "together", "job": own, "wait_ms": 30000})
		if strings.Count(got, `"`+us+`"`) != 2 || strings.Contains(got, `"`+other(us)+`"`) {
			t.Errorf("%s: the job is %s", us, got)
		}
		theirs.fails("job_unknown", "dspex.rpc.jobs.get", m{"session": "together", "job": own})
	})
}

func other(us string) string {
	if us == "acme" {
		return "globex"
	}
	return "acme"
}

// TestAQuotaBoundsATenantsBatchesAndNobodyElse fills what one tenant may have.
func TestAQuotaBoundsATenantsBatchesAndNobodyElse(t *testing.T) {
	d := withQuotas(t, `{"acme": {"batches": 2, "batch_jobs": 5}}`)
	acme, globex := d.as(t, "acme"), d.as(t, "globex")
	ping := m{"command": "ping"}
	five := m{"batch": "five", "jobs": []any{ping, ping, ping, ping, ping}}
	acme.fails("tenant_quota", "dspex.rpc.batches.submit", m{"batch": "six", "jobs": []any{ping, ping, ping, ping, ping, ping}})
	acme.succeeds("dspex.rpc.batches.erase", m{"batch": "six"}) // its jobs were stored, and it was not submitted
	until(t, "the erased batch is gone", func() bool { return !acme.ask("dspex.rpc.batches.get", m{"batch": "six"}).OK })
	acme.succeeds("dspex.rpc.batches.submit", five)
	for _, id := range []string{"one", "two"} {
		until(t, "there is room for "+id, func() bool {
			return acme.ask("dspex.rpc.batches.upload", m{"batch": id, "from": 0, "jobs": []any{ping}}).OK
		})
	}
	acme.succeeds("dspex.rpc.batches.get", m{"batch": "five", "wait_ms": 30000})
	acme.fails("tenant_quota", "dspex.rpc.batches.upload", m{"batch": "three", "from": 0, "jobs": []any{ping}})
	for _, id := range []string{"one", "two", "three"} {
		globex.succeeds("dspex.rpc.batches.upload", m{"batch": id, "from": 0, "jobs": []any{ping}})
	}
}

// TestASingleJobOfAnotherTenantWaitsForRunningJobsAlone publishes one job without session beside another tenant's batch with a window
// that all of its jobs fit into. Before it in the lane are only those of them that run, and fewer than those.
func TestASingleJobOfAnotherTenantWaitsForRunningJobsAlone(t *testing.T) {
	const pieces, slots = 5, 8
	acme, globex := as(t, "acme"), as(t, "globex")
	var slow []any
	for range 128 {
		slow = append(slow, m{"command": "sleep", "args": m{"ms": 50}})
	}
	for n := range pieces {
		acme.succeeds("dspex.rpc.batches.upload", m{"batch": "wide", "from": 128 * n, "jobs": slow})
	}
	acme.succeeds("dspex.rpc.batches.submit", m{"batch": "wide", "jobs": pieces * 128, "concurrency": pieces * 128})
	defer acme.succeeds("dspex.rpc.batches.cancel", m{"batch": "wide"})
	until(t, "the wide batch runs", func() bool { return acme.succeeded("wide") > slots })
	before := acme.succeeded("wide")
	globex.publish("dspex.anonymous.batch", "", "single", m{"command": "ping"})
	n := acme.succeeded("wide") - before
	t.Logf("a single job: %d jobs of the wide batch meanwhile", n)
	if n > 8*slots { // the requests take their time, too
		t.Errorf("a single job has waited for %d of the %d of a batch on %d slots", n, pieces*128, slots)
	}
}

// TestTheLeaderReceivesTheRepliesToATenantsBatch counts what the broker brings it, while a last job keeps the batch from its end.
func TestTheLeaderReceivesTheRepliesToATenantsBatch(t *testing.T) {
	const quick = 20
	acme := as(t, "acme")
	list := []any{m{"command": "sleep", "args": m{"ms": 60000}}}
	for range quick {
		list = append(list, m{"command": "ping"})
	}
	acme.succeeds("dspex.rpc.batches.submit", m{"batch": "replies", "jobs": list})
	defer acme.succeeds("dspex.rpc.batches.cancel", m{"batch": "replies"})
	until(t, "replies of all jobs that have ended", func() bool {
		z, err := shared.broker.Subsz(&server.SubszOptions{Subscriptions: true, Account: "DSPEX", Limit: 10_000})
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(z.Subs, func(s server.SubDetail) bool {
			return strings.HasPrefix(s.Subject, "dspex.reply.acme.batch.") && s.Msgs >= quick
		})
	})
	until(t, "their outcomes", func() bool { return acme.succeeded("replies") == quick })
}

// TestBatchesShareSlotsByTheTenantsWeights runs a batch of each tenant, with and without sessions: when that of the one with the weight 3 has
// ended, the other one's is at about a third.
func TestBatchesShareSlotsByTheTenantsWeights(t *testing.T) {
	const all, piece = 384, 128
	dir := t.TempDir()
	weights := []string{"--tenant-weights", "acme=3"}
	d, err := deploy(shared.bin, dir, weights, weights)
	if d != nil {
		t.Cleanup(d.stop)
	}
	if err != nil {
		t.Fatal(err)
	}
	acme, globex := d.as(t, "acme"), d.as(t, "globex")
	for _, kind := range []string{"lane", "sessions"} {
		for _, c := range []client{globex, acme} { // acme begins last, with less time
			for from := 0; from < all; from += piece {
				var list []any
				for n := range piece {
					job := m{"command": "sleep", "args": m{"ms": 50}}
					if kind == "sessions" {
						job["session"] = fmt.Sprint("s", from+n)
					}
					list = append(list, job)
				}
				c.succeeds("dspex.rpc.batches.upload", m{"batch": kind, "from": from, "jobs": list})
			}
		}
		for _, c := range []client{globex, acme} {
			c.succeeds("dspex.rpc.batches.submit", m{"batch": kind, "jobs": all, "concurrency": all})
		}
		acme.succeeds("dspex.rpc.batches.get", m{"batch": kind, "wait_ms": 60000})
		n := globex.succeeded(kind)
		t.Logf("%s: %d of %d jobs of globex have ended", kind, n, all)
		if n < all/8 || n > all/2 { // what is shown may be a second old
			t.Errorf("%s: %d of %d jobs of globex have ended when all of acme have, expected a third", kind, n, all)
		}
		globex.succeeds("dspex.rpc.batches.cancel", m{"batch": kind})
		globex.succeeds("dspex.rpc.batches.get", m{"batch": kind, "wait_ms": 60000})
	}
}

// succeeded is how many jobs of a batch have.
func (c client) succeeded(id string) int {
	c.t.Helper()
	var b struct {
		Outcomes struct{ Succeeded int }
	}
	if err := json.Unmarshal([]byte(c.succeeds("dspex.rpc.batches.get", m{"batch": id})), &b); err != nil {
		c.t.Fatal(err)
	}
	return b.Outcomes.Succeeded
}

// TestALongBatchDelaysAnotherByItsWindow runs a few jobs beside a batch whose jobs fill the lane. Another tenant's and one's own come to
// their turn behind what the long batch has at the broker, not behind all that it has.
func TestALongBatchDelaysAnotherByItsWindow(t *testing.T) {
	const pieces, window = 5, 16
	acme, globex := as(t, "acme"), as(t, "globex")
	var slow, quick []any
	for range 128 {
		slow = append(slow, m{"command": "sleep", "args": m{"ms": 40}})
	}
	for range 10 {
		quick = append(quick, m{"command": "sleep", "args": m{"ms": 1}})
	}
	for n := range pieces {
		acme.succeeds("dspex.rpc.batches.upload", m{"batch": "long", "from": 128 * n, "jobs": slow})
	}
	acme.succeeds("dspex.rpc.batches.submit", m{"batch": "long", "jobs": pieces * 128, "concurrency": window})
	defer acme.succeeds("dspex.rpc.batches.cancel", m{"batch": "long"})
	succeeded := func() int { return acme.succeeded("long") }
	until(t, "the long batch runs", func() bool { return succeeded() > 0 })
	for who, c := range map[string]client{"another tenant's": globex, "one's own": acme} {
		before := succeeded()
		c.succeeds("dspex.rpc.batches.submit", m{"batch": "quick", "jobs": quick})
		if got := c.succeeds("dspex.rpc.batches.get", m{"batch": "quick", "wait_ms": 60000}); !strings.Contains(got, `"succeeded":10`) {
			t.Fatalf("%s quick batch is %s", who, got)
		}
		n := succeeded() - before
		t.Logf("%s 10 jobs: %d jobs of the long batch meanwhile", who, n)
		if n >= pieces*128/2 {
			t.Errorf("%s 10 jobs have waited for %d of the %d of a batch with a window of %d", who, n, pieces*128, window)
		}
	}
}
