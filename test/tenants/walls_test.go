package tenants

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex"
)

// both runs a test for each tenant, beside the other one.
func both(t *testing.T, test func(t *testing.T, us string, mine, theirs client)) {
	test(t, "acme", as(t, "acme"), as(t, "globex"))
	test(t, "globex", as(t, "globex"), as(t, "acme"))
}

func (c client) succeeds(subject string, body m, headers ...string) string {
	c.t.Helper()
	r := c.ask(subject, body, headers...)
	if !r.OK {
		c.t.Fatalf("%s: %+v", subject, r.Error)
	}
	return string(r.Result)
}

func (c client) fails(code, subject string, body m, headers ...string) {
	c.t.Helper()
	if r := c.ask(subject, body, headers...); r.OK || r.Error.Code != code {
		c.t.Errorf("%s: %s %+v, want %s", subject, r.Result, r.Error, code)
	}
}

// TestSessionsIdsAndOutcomesAreTheTenants uses the same names on both sides.
func TestSessionsIdsAndOutcomesAreTheTenants(t *testing.T) {
	both(t, func(t *testing.T, us string, mine, theirs client) {
		for _, x := range []string{"1", "2"} { // the session's state, and its jobs' ids
			mine.succeeds("dspex.rpc.session.shared", command("append", m{"x": us + x}), "Dspex-Job", "call"+x)
			if r := mine.publish("dspex.session.shared", "shared", "published"+x, command("append", m{"x": us + "p" + x})); !r.OK {
				t.Fatalf("%+v", r)
			}
		}
		got := mine.succeeds("dspex.rpc.session.shared", command("append", m{"x": us}), "Dspex-Job", "call3")
		if want := fmt.Sprintf(`"list":["%s1","%sp1","%s2","%sp2","%s"]}`, us, us, us, us, us); !strings.HasSuffix(got, want) {
			t.Errorf("%s: %s, want %s", us, got, want)
		}
		// The first outcome of an id is the tenant's own.
		if again := mine.succeeds("dspex.rpc.session.shared", command("append", m{"x": us}), "Dspex-Job", "call3"); again != got {
			t.Errorf("%s: again %s", us, again)
		}
		for _, lane := range []string{"interactive", "batch"} {
			if r := mine.publish("dspex.anonymous."+lane, "", "same-"+lane, command("echo", m{"x": us})); string(r.Result) != `{"x":"`+us+`"}` {
				t.Errorf("%s: %s", us, r.Result)
			}
		}
	})
}

// TestNobodyNamesWhatIsAnothers tries ids that the other tenant has, counted ones too, on every endpoint that takes one.
func TestNobodyNamesWhatIsAnothers(t *testing.T) {
	both(t, func(t *testing.T, us string, mine, theirs client) {
		mine.succeeds("dspex.rpc.session.secret_"+us, command("append", m{"x": us}), "Dspex-Job", "known")
		theirs.fails("job_unknown", "dspex.rpc.jobs.get", m{"session": "secret_" + us, "job": "known"})
		ack, err := mine.RequestMsg(message(t, "dspex.anonymous.batch", command("sleep", m{"ms": 600000})), patience)
		if err != nil {
			t.Fatal(err)
		}
		var stored struct{ Seq uint64 }
		if err := json.Unmarshal(ack.Data, &stored); err != nil {
			t.Fatal(err)
		}
		counted := fmt.Sprintf("q%d", stored.Seq)
		theirs.fails("job_unknown", "dspex.rpc.jobs.get", m{"job": counted})
		theirs.fails("job_unknown", "dspex.rpc.jobs.cancel", m{"job": counted})
		for _, filter := range []m{{"session": "secret_" + us}, {"anonymous": true, "command": "sleep"}} {
			if got := mine.succeeds("dspex.rpc.jobs.list", filter); !strings.Contains(got, "known") && !strings.Contains(got, counted) {
				t.Errorf("%s has its own jobs: %s", us, got)
			}
			if got := theirs.succeeds("dspex.rpc.jobs.list", filter); got != `{"jobs":[]}` {
				t.Errorf("%s: %s", us, got)
			}
		}
		if got := mine.succeeds("dspex.rpc.jobs.cancel", m{"job": counted}); !strings.Contains(got, `"cancelled"`) {
			t.Errorf("%s: %s", us, got)
		}
		theirs.fails("job_unknown", "dspex.rpc.jobs.get", m{"job": counted})
		theirs.fails("session_unknown", "dspex.rpc.sessions.get", m{"session": "secret_" + us})
		theirs.fails("session_unknown", "dspex.rpc.sessions.export", m{"session": "secret_" + us})
		if got := theirs.succeeds("dspex.rpc.sessions.list", m{"prefix": "secret_" + us}); got != `{"sessions":[]}` {
			t.Errorf("%s", got)
		}
		// Whoever cleans up or erases has a session of that name of its own.
		theirs.succeeds("dspex.rpc.sessions.cleanup", m{"session": "secret_" + us})
		theirs.succeeds("dspex.rpc.sessions.erase", m{"session": "secret_" + us})
		if got := mine.succeeds("dspex.rpc.session.secret_"+us, command("append", m{"x": "more"})); !strings.Contains(got, us) {
			t.Errorf("%s: %s", us, got)
		}
		mine.succeeds("dspex.rpc.jobs.get", m{"session": "secret_" + us, "job": "known"})
		program := mine.succeeds("dspex.rpc.anonymous", command("create_program", m{"id": "p", "signature": "question -> answer"}))
		use := command("execute_program", m{"program_id": json.RawMessage(program), "inputs": m{"question": "?"}})
		mine.succeeds("dspex.rpc.anonymous", use)
		theirs.fails("program_unknown", "dspex.rpc.anonymous", use)
	})
}

// TestDeadLettersAreTheTenants: list, show, replay and purge of the other one's find nothing.
func TestDeadLettersAreTheTenants(t *testing.T) {
	both(t, func(t *testing.T, us string, mine, theirs client) {
		dying := command("boom", m{"retryable": true})
		dying["options"] = m{"max_retries": 0}
		if r := mine.publish("dspex.session.dying", "dying", "last", dying); r.OK {
			t.Fatal("it was to fail")
		}
		var found struct {
			Letters []struct {
				Sequence uint64
				Job      string
			}
		}
		list := func(c client) int {
			if err := json.Unmarshal([]byte(c.succeeds("dspex.rpc.dlq.list", m{"session": "dying"})), &found); err != nil {
				t.Fatal(err)
			}
			return len(found.Letters)
		}
		if list(theirs) != 0 || list(mine) != 1 {
			t.Fatalf("%s: %+v", us, found)
		}
		letter := m{"sequence": found.Letters[0].Sequence}
		for _, verb := range []string{"show", "replay", "purge"} {
			theirs.fails("dead_letter_unknown", "dspex.rpc.dlq."+verb, letter)
		}
		theirs.succeeds("dspex.rpc.dlq.purge", m{"session": "dying"})
		if list(mine) != 1 {
			t.Errorf("%s: the letter is gone", us)
		}
		mine.succeeds("dspex.rpc.dlq.purge", letter)
	})
}

// TestTheTenantIsWhoTheAccountIs: neither a header nor a subject changes it, but for operators.
func TestTheTenantIsWhoTheAccountIs(t *testing.T) {
	both(t, func(t *testing.T, us string, mine, theirs client) {
		them := map[string]string{"acme": "globex", "globex": "acme"}[us]
		mine.fails("bad_header", "dspex.rpc.session.x", command("echo", nil), "Dspex-Tenant", them)
		mine.fails("bad_header", "dspex.rpc.sessions.list", m{}, "Dspex-Tenant", them)
		for _, subject := range []string{"dspex.t." + them + ".rpc.session.x", "dspex.t." + them + ".session.x", "dspex.t." + us + ".rpc.session.x", "dspex.call.x", "dspex.p.1." + them + ".x.call", "$KV.dspex_sessions.s.x"} {
			if _, err := mine.RequestMsg(message(t, subject, command("echo", nil)), patience); err != nats.ErrNoResponders {
				t.Errorf("%s to %s: %v", us, subject, err)
			}
		}
		// A reply goes to the tenant that requested it, whatever name it chose.
		there, err := theirs.SubscribeSync("dspex.reply.>")
		if err != nil {
			t.Fatal(err)
		}
		here, err := mine.SubscribeSync("dspex.reply.>")
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []client{mine, theirs} {
			if err := c.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := mine.RequestMsg(message(t, "dspex.session.x", command("echo", m{"x": us}), "Dspex-Reply-To", "dspex.reply."+them+".x"), patience); err != nil {
			t.Fatal(err)
		}
		if got, err := here.NextMsg(patience); err != nil || got.Subject != "dspex.reply."+them+".x" {
			t.Errorf("%v %v", got, err)
		}
		theirs.succeeds("dspex.rpc.session.x", command("echo", nil)) // what comes there comes before its answer
		if n, _, err := there.Pending(); n != 0 || err != nil {
			t.Errorf("%s has got %d replies of %s, %v", them, n, us, err)
		}
	})
}

// TestStatisticsAreTheTenants: each sees its own numbers and the pool's size; operators see all.
func TestStatisticsAreTheTenants(t *testing.T) {
	type numbers struct {
		Requests int64 `json:"total_requests"`
		Errors   int64 `json:"total_errors"`
		Sessions int64 `json:"active_sessions"`
		Size     int64 `json:"pool_size"`
		Extra    map[string]json.RawMessage
	}
	operator := as(t, "operator")
	read := func(c client, headers ...string) (n numbers) {
		t.Helper()
		if err := json.Unmarshal([]byte(c.succeeds("dspex.rpc.stats.get", m{}, headers...)), &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	both(t, func(t *testing.T, us string, mine, theirs client) {
		before, beforeThere := read(mine), read(theirs)
		for i := range 3 {
			mine.succeeds(fmt.Sprintf("dspex.rpc.session.stats_%d", i), command("echo", nil))
		}
		mine.ask("dspex.rpc.anonymous", command("boom", nil))
		after, afterThere := read(mine), read(theirs)
		switch {
		case after.Requests != before.Requests+4:
			t.Errorf("after.Requests: got %v, want %v; %s: %+v, before %+v", after.Requests, before.Requests+4, us, after, before)
		case after.Errors != before.Errors+1:
			t.Errorf("after.Errors: got %v, want %v; %s: %+v, before %+v", after.Errors, before.Errors+1, us, after, before)
		case after.Sessions != before.Sessions+3:
			t.Errorf("after.Sessions: got %v, want %v; %s: %+v, before %+v", after.Sessions, before.Sessions+3, us, after, before)
		case after.Size != 1:
			t.Errorf("after.Size must be 1, got %v; %s: %+v, before %+v", after.Size, us, after, before)
		}
		if afterThere.Requests != beforeThere.Requests || afterThere.Errors != beforeThere.Errors || afterThere.Sessions != beforeThere.Sessions {
			t.Errorf("the other: %+v, before %+v", afterThere, beforeThere)
		}
		if got := slices.Sorted(maps.Keys(after.Extra)); !slices.Equal(got, []string{"overflow_workers", "sandbox"}) {
			t.Errorf("a tenant is told %v", got)
		}
		var each map[string]numbers
		all := read(operator)
		if err := json.Unmarshal(all.Extra["tenants"], &each); err != nil || each[us].Requests != after.Requests || all.Requests < each["acme"].Requests+each["globex"].Requests {
			t.Errorf("an operator is told %s, %v", all.Extra["tenants"], err)
		}
		if stats, err := dspex.New(operator.Conn).Stats(t.Context()); err != nil || stats.Tenants[us].TotalRequests != after.Requests || stats.TotalRequests != all.Requests {
			t.Errorf("the client: %+v, %v", stats, err)
		}
		if named := read(operator, "Dspex-Tenant", us); named.Requests != after.Requests {
			t.Errorf("%s by name: %+v", us, named)
		}
		var breakers struct{ Breakers []struct{ Name string } }
		if err := json.Unmarshal([]byte(mine.succeeds("dspex.rpc.breakers.list", m{})), &breakers); err != nil {
			t.Error(err)
		}
		for _, b := range breakers.Breakers { // neither the hosts' nor those of models that the other one has chosen
			if !strings.HasPrefix(b.Name, "lm."+us+"!") {
				t.Errorf("%s sees the breaker %s", us, b.Name)
			}
		}
		if got := mine.succeeds("dspex.rpc.health.check", m{}); strings.Contains(got, "reasons") {
			t.Errorf("a tenant sees %s", got)
		}
	})
}

// TestAQuotaHoldsOneTenantBackAndNobodyElse fills one tenant's bounds with jobs that it published.
func TestAQuotaHoldsOneTenantBackAndNobodyElse(t *testing.T) {
	d := withQuotas(t, `{"*": {"jobs": 40, "sessions": 3}}`)
	acme, globex := d.as(t, "acme"), d.as(t, "globex")
	held := make([]string, 40)
	for i := range held {
		held[i] = fmt.Sprintf("held_%d", i)
	}
	for _, job := range held {
		if _, err := acme.RequestMsg(message(t, "dspex.session.busy", command("sleep", m{"ms": 600000}), "Dspex-Job", job), patience); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the bound of jobs is reached", func() bool {
		r := acme.ask("dspex.rpc.anonymous", command("echo", nil))
		if !r.OK && r.Error.Code != "tenant_quota" {
			t.Fatalf("code: got %s, want tenant_quota", r.Error.Code)
		}
		if !r.OK && (!r.Error.Retryable || r.Error.RetryAfter <= 0) {
			t.Fatalf("retryable %t after %v, want after a time", r.Error.Retryable, r.Error.RetryAfter)
		}
		return !r.OK
	})
	for range 10 {
		globex.succeeds("dspex.rpc.anonymous", command("echo", nil))
	}
	for _, job := range held {
		acme.succeeds("dspex.rpc.jobs.cancel", m{"session": "busy", "job": job})
	}
	until(t, "there is room again", func() bool { return acme.ask("dspex.rpc.anonymous", command("echo", nil)).OK })
	known := map[string]bool{}
	until(t, "the bound of sessions is reached", func() bool {
		session := fmt.Sprintf("new_%d", len(known))
		r := globex.ask("dspex.rpc.session."+session, command("append", m{"x": 1}))
		if r.Error.Code == "tenant_quota" && strings.Contains(r.Error.Message, "jobs that wait") {
			return false // it counts what has just ended, too
		}
		known[session] = r.OK
		if !r.OK && (r.Error.Code != "tenant_quota" || !strings.Contains(r.Error.Message, "sessions")) {
			t.Fatalf("%+v", r.Error)
		}
		return !r.OK
	})
	globex.succeeds("dspex.rpc.session.new_0", command("append", m{"x": 2}))
	acme.succeeds("dspex.rpc.session.mine", command("append", m{"x": 1}))
}

func withQuotas(t *testing.T, quotas string) *deployment {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "quotas.json")
	if err := os.WriteFile(path, []byte(quotas), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := deploy(shared.bin, dir, []string{"--tenant-quotas", path}, nil)
	if d != nil {
		t.Cleanup(d.stop)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// until repeats what must become true by itself.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}
