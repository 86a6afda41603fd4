package tenants

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/jobs"
)

// TestEachCommandIsForItsRole tries every command that is not a client's, on every endpoint that takes commands, as a tenant and as
// an operator.
func TestEachCommandIsForItsRole(t *testing.T) {
	document := exported(t)
	operator, acme := as(t, "operator"), as(t, "acme")
	const anybody, ofTenant, ofAll = 0, 1, 2
	n := 0
	for _, c := range []struct {
		command m
		session bool
		needs   int
	}{
		{command("shutdown", nil), true, ofAll},
		{command("shutdown", nil), false, ofAll},
		{command("set_lm", m{"provider": "ollama", "model": "llama3"}), false, ofAll},
		{command("configure_lm", m{"provider": "ollama", "model": "llama3"}), false, ofAll},
		{command("set_lm", m{"provider": "ollama", "model": "llama3"}), true, anybody},
		{command("erase_session", nil), true, ofTenant},
		{command("import_session", m{"document": document, "replace": true}), true, ofTenant},
		{command("cleanup_session", nil), true, anybody},
		{command("cleanup", nil), true, anybody},
		{command("reset_state", nil), true, anybody},
		{command("echo", nil), true, anybody},
		{command("echo", nil), false, anybody},
	} {
		for _, by := range []struct {
			who        client
			role       int
			call, name string
		}{
			{acme, anybody, "dspex.rpc.", "a tenant's call"},
			{acme, anybody, "", "a tenant's published job"},
			{acme, ofTenant, "dspex.rpc.admin.", "a call of a tenant's operator"},
			{operator, anybody, "dspex.rpc.", "an operator's call of a client"},
			{operator, ofAll, "dspex.rpc.admin.", "an operator's call"},
		} {
			n++
			session, id := "", fmt.Sprintf("role-%d", n)
			to := by.call + "anonymous"
			if c.session {
				session = "roles" + id
				to = by.call + "session." + session
			}
			var got reply
			switch {
			case by.call != "":
				got = by.who.ask(to, c.command, "Dspex-Job", id)
			case c.session:
				got = by.who.publish("dspex.session."+session, session, id, c.command)
			default:
				got = by.who.publish("dspex.anonymous.batch", session, id, c.command)
			}
			may := by.role >= c.needs
			at := fmt.Sprintf("%v in a session: %v, %s", c.command["command"], c.session, by.name)
			if may != got.OK {
				t.Errorf("%s: ok must be %v, got %+v", at, may, got)
			}
			if may || got.OK {
				continue
			}
			if got.Error.Code != "role_required" || got.Error.Retryable {
				t.Errorf("%s: the code must be role_required and final, got %+v", at, got.Error)
			}
			if got.Error.Hint == "" || !strings.Contains(got.Error.Message, "needs the operator role") {
				t.Errorf("%s: the message must name the role, with a hint, got %+v", at, got.Error)
			}
		}
	}
}

// TestASessionThatArgumentsNameIsReachedByRoleAndTenant: a client has permissions for subjects, which an argument does not widen.
func TestASessionThatArgumentsNameIsReachedByRoleAndTenant(t *testing.T) {
	operator, acme, globex := as(t, "operator"), as(t, "acme"), as(t, "globex")
	write := func(c client, value string) {
		t.Helper()
		if r := c.ask("dspex.rpc.session.named", command("append", m{"x": value})); !r.OK {
			t.Fatalf("%+v", r)
		}
	}
	write(acme, "acme's")
	write(globex, "globex's")
	read := command("get_session_data", m{"session_id": "named"})
	if r := acme.ask("dspex.rpc.anonymous", read); r.OK || r.Error.Code != "role_required" || !strings.Contains(r.Error.Hint, "dspex.rpc.session.") {
		t.Errorf("a client: %+v", r)
	}
	if r := acme.ask("dspex.rpc.admin.anonymous", read); !r.OK || !strings.Contains(string(r.Result), "acme's") {
		t.Errorf("an operator of acme: %+v %s", r, r.Result)
	}
	if r := operator.ask("dspex.rpc.admin.anonymous", read, "Dspex-Tenant", "globex"); !r.OK || !strings.Contains(string(r.Result), "globex's") {
		t.Errorf("an operator, for globex: %+v %s", r, r.Result)
	}
	if r := acme.ask("dspex.rpc.admin.anonymous", command("set_lm", m{"session_id": "named", "provider": "ollama", "model": "llama3"})); !r.OK {
		t.Errorf("a session's model needs no more than the session: %+v", r)
	}
	if r := acme.ask("dspex.rpc.admin.anonymous", command("erase_session", m{"session_id": "named"})); !r.OK {
		t.Errorf("an operator of acme erases: %+v", r)
	}
	if r := globex.ask("dspex.rpc.session.named", command("get_session_data", nil)); !r.OK || !strings.Contains(string(r.Result), "globex's") {
		t.Errorf("globex's own afterwards: %+v %s", r, r.Result)
	}
}

// exported is a document that a session can be made of.
func exported(t *testing.T) (document json.RawMessage) {
	t.Helper()
	c := as(t, "acme")
	if r := c.ask("dspex.rpc.session.exported", command("append", m{"x": 1})); !r.OK {
		t.Fatalf("%+v", r)
	}
	r := c.ask("dspex.rpc.sessions.export", m{"session": "exported"})
	if !r.OK {
		t.Fatalf("%+v", r)
	}
	return r.Result
}

// TestTheEndpointsOfWholeSessionsHaveTheRoleOfWhoAsks: they make the jobs that clients may not send themselves.
func TestTheEndpointsOfWholeSessionsHaveTheRoleOfWhoAsks(t *testing.T) {
	document := exported(t)
	for user, header := range map[string][]string{"acme": nil, "operator": {"Dspex-Tenant", "acme"}} {
		c := as(t, user)
		for verb, more := range map[string]m{"import": {"document": document, "replace": true}, "cleanup": {}, "erase": {}} {
			body := m{"session": "whole_" + user}
			maps.Copy(body, more)
			if r := c.ask("dspex.rpc.sessions."+verb, body, header...); !r.OK {
				t.Errorf("%s of %s: %+v", verb, user, r)
			}
		}
	}
}

// TestWhatConcernsAllTenantsIsNotServedToOne: nobody answers, whatever the tenant's account imports.
func TestWhatConcernsAllTenantsIsNotServedToOne(t *testing.T) {
	acme, operator := as(t, "acme"), as(t, "operator")
	for subject, body := range map[string]m{
		"hosts.list": {}, "hosts.drain": {"host": "nobody"}, "hosts.resume": {"host": "nobody"}, "hosts.reload": {"host": "nobody"}, "partitions.get": {}, "partitions.set": {"partitions": 0},
		"consumers.list": {}, "consumers.remove": {"stream": "DSPEX_JOBS", "consumer": "x"}, "breakers.reset": {"name": "x"},
	} {
		if _, err := acme.RequestMsg(message(t, "dspex.rpc."+subject, body), patience); err != nats.ErrNoResponders {
			t.Errorf("%s of a tenant: %v", subject, err)
		}
		if _, err := operator.RequestMsg(message(t, "dspex.rpc."+subject, body), patience); err != nil {
			t.Errorf("%s of an operator: %v", subject, err)
		}
	}
}

// TestAReplayHasTheRightsOfAClient: an operator who replays what died does not do for a client what that one may not. Such a letter
// may be older than the accounts.
func TestAReplayHasTheRightsOfAClient(t *testing.T) {
	acme, operator, service := as(t, "acme"), as(t, "operator"), as(t, "service")
	letter := jobs.DeadLetter{Session: jobs.SessionRef{Tenant: "acme", ID: "replayed"}, Job: "forbidden", Mode: jobs.ModeQueue, Type: jobs.JSON, Sequence: 1,
		Stored: time.Unix(1, 0), Command: "erase_session", Attempts: 1, Reason: (&jobs.Reply{Job: "forbidden", Attempt: 1, Err: jobs.OutcomePending("it died")}).Append(nil)}
	body := message(t, "", command("erase_session", nil)).Data
	if _, err := service.RequestMsg(&nats.Msg{Subject: letter.Session.DeadSubject(), Header: letter.Header(1 << 20), Data: body}, patience); err != nil {
		t.Fatal(err)
	}
	list := acme.ask("dspex.rpc.dlq.list", m{"session": "replayed"})
	var found struct{ Letters []struct{ Sequence uint64 } }
	if err := json.Unmarshal(list.Result, &found); err != nil || len(found.Letters) != 1 {
		t.Fatalf("%s %+v", list.Result, list)
	}
	sequence := found.Letters[0].Sequence
	if r := operator.ask("dspex.rpc.dlq.replay", m{"sequence": sequence}, "Dspex-Tenant", "acme"); !r.OK {
		t.Fatalf("%+v", r)
	}
	got := acme.ask("dspex.rpc.jobs.get", m{"session": "replayed", "job": fmt.Sprintf("forbidden-r%d", sequence), "wait_ms": patience.Milliseconds()})
	if !strings.Contains(string(got.Result), `"code":"role_required"`) {
		t.Errorf("%+v %s", got.Error, got.Result)
	}
}
