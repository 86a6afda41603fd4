package jobs

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestKeysOfTwoSessionsNeverMeet: whatever the names, no key or subject stands for two things, and no wildcard of one session or
// tenant matches what belongs to another.
func TestKeysOfTwoSessionsNeverMeet(t *testing.T) {
	token := rapid.SampledFrom([]string{"default", "s", "a", "r", "x", "acme", "session", "call", "q1", "_"})
	keys := func(r SessionRef, job string) map[string]string {
		anonymous := Anonymous(r.Tenant)
		return map[string]string{
			"record": "sessions " + r.RecordKey(), "head": "sessions " + r.AttemptRecordKey(), "program": "sessions " + anonymous.ProgramKey(job),
			"result": "results " + r.ResultKey(job), "anonymous result": "results " + anonymous.ResultKey(job), "attempts": "results " + anonymous.AttemptKey(job),
			"letters": "dlq " + r.DeadSubject(), "anonymous letters": "dlq " + anonymous.DeadSubject(), "invalid": "dlq " + anonymous.InvalidSubject(),
			"published": "in " + r.PublishSubject(""), "kept": "in " + r.CallSubject(""),
			"anonymous": "in " + anonymous.PublishSubject(job), "anonymous kept": "in " + anonymous.CallSubject(job),
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := SessionRef{token.Draw(t, "tenant"), token.Draw(t, "id")}, SessionRef{token.Draw(t, "tenant"), token.Draw(t, "id")}
		jobA, jobB := token.Draw(t, "job"), token.Draw(t, "job")
		mine := keys(a, jobA)
		for what, key := range keys(b, jobB) {
			for which, own := range mine {
				if own == key && (which != what || a.Tenant != b.Tenant) {
					t.Fatalf("%s of %v (%s) and %s of %v (%s) are %s", which, a, jobA, what, b, jobB, key)
				}
			}
			if a.Tenant == b.Tenant {
				continue
			}
			for _, pattern := range []string{"sessions " + SessionRef{a.Tenant, "*"}.RecordKey(), "results " + a.ResultKey("*"), "dlq " + SessionRef{a.Tenant, "*"}.DeadSubject()} {
				if matches(pattern, key) {
					t.Fatalf("%s of %v matches %s of %v", pattern, a, key, b)
				}
			}
		}
	})
}

func matches(pattern, subject string) bool {
	p, s := strings.Split(pattern, "."), strings.Split(subject, ".")
	return slices.EqualFunc(p, s, func(p, s string) bool { return p == "*" || p == s })
}

func TestTheTenantDefaultKeepsTheKeysOfBefore(t *testing.T) {
	r, none := SessionRef{DefaultTenant, "u1"}, Anonymous(DefaultTenant)
	for got, want := range map[string]string{
		r.RecordKey(): "s.u1", r.AttemptRecordKey(): "h.u1", r.ResultKey("j"): "r.s.u1.j", none.ResultKey("j"): "r.a.j", none.AttemptKey("j"): "t.j", none.ProgramKey("p"): "a.p",
		r.DeadSubject(): "dspex.dlq.s.u1", none.DeadSubject(): "dspex.dlq.a", none.InvalidSubject(): "dspex.dlq.invalid", r.String(): "u1",
		r.PublishSubject(""): "dspex.session.u1", none.PublishSubject(LaneBatch): "dspex.anonymous.batch",
	} {
		if got != want {
			t.Errorf("%s: expected %s", got, want)
		}
	}
}

func TestASubjectTellsWhoseTheJobIsAndWhoPutItThere(t *testing.T) {
	for subject, want := range map[string]Source{
		"dspex.p.5.acme.u1.session":             {Session: SessionRef{"acme", "u1"}},
		"dspex.p.5.acme.u1.call":                {Session: SessionRef{"acme", "u1"}, Kept: true},
		"dspex.p.5.u1":                          {Session: SessionRef{DefaultTenant, "u1"}},
		"dspex.anonymous.batch":                 {Session: Anonymous(DefaultTenant), Lane: "batch"},
		"dspex.call.anonymous.batch":            {Session: Anonymous(DefaultTenant), Lane: "batch", Kept: true},
		"dspex.t.acme.anonymous.batch":          {Session: Anonymous("acme"), Lane: "batch"},
		"dspex.t.acme.call.anonymous.batch":     {Session: Anonymous("acme"), Lane: "batch", Kept: true},
		"dspex.t.anonymous.anonymous.batch":     {Session: Anonymous("anonymous"), Lane: "batch"},
		"dspex.t.call.anonymous.batch":          {Session: Anonymous("call"), Lane: "batch"},
		"dspex.p.5.acme.u1.other":               {},
		"dspex.p.5.acme.u1":                     {},
		"dspex.p.5.acme.u1.call.more":           {},
		"dspex.anchor":                          {},
		"dspex.t.acme.session.u1":               {},
		"dspex.t.acme.other.anonymous.batch":    {},
		"$KV.dspex_sessions.s.u1":               {},
		"dspex.t.acme.call.anonymous.batch.too": {},
	} {
		if got := SourceOf(subject); got != want {
			t.Errorf("%s: %+v", subject, got)
		}
	}
}

func TestRepliesGoWhereTheirTenantHearsThem(t *testing.T) {
	for name, c := range map[string]struct {
		subject, to string
		accounts    bool
		want, code  string
	}{
		"without accounts":                   {"dspex.p.1.default.s.session", "_INBOX.x", false, "_INBOX.x", ""},
		"without accounts, under reply":      {"dspex.p.1.default.s.session", "dspex.reply.x", false, "dspex.reply.x", ""},
		"a tenant's":                         {"dspex.p.1.acme.s.session", "dspex.reply.x.y", true, "dspex.reply.acme.x.y", ""},
		"a tenant's cannot name another's":   {"dspex.p.1.acme.s.session", "dspex.reply.other.y", true, "dspex.reply.acme.other.y", ""},
		"default is a tenant, too":           {"dspex.p.1.default.s.session", "dspex.reply.x", true, "dspex.reply.default.x", ""},
		"stored before there were accounts":  {"dspex.p.1.s", "_INBOX.x", true, "_INBOX.x", ""},
		"an inbox does not cross":            {"dspex.p.1.acme.s.session", "_INBOX.x", true, "", CodeBadReply},
		"an inbox of an anonymous job":       {"dspex.t.acme.anonymous.batch", "_INBOX.x", true, "", CodeBadReply},
		"a call's own inbox":                 {"dspex.p.1.acme.s.call", "_R_.abc.def", true, "_R_.abc.def", ""},
		"that of a call, named by a client":  {"dspex.p.1.acme.s.session", "_R_.abc.def", true, "", CodeBadReply},
		"the same without accounts":          {"dspex.p.1.default.s.session", "_R_.abc.def", false, "", CodeBadReply},
		"a bucket":                           {"dspex.p.1.acme.s.session", "$KV.dspex_assign.p.1", true, "", CodeBadReply},
		"a bucket, whoever says so":          {"dspex.p.1.acme.s.call", "$KV.dspex_assign.p.1", true, "", CodeBadReply},
		"everything that a call waits for":   {"dspex.p.1.acme.s.call", "_R_.>", true, "", CodeBadReply},
		"the broker's own, without the rest": {"dspex.p.1.acme.s.call", "_R_.", true, "", CodeBadReply},
	} {
		_, env, bad := ParseStored(c.subject, map[string][]string{HeaderReplyTo: {c.to}}, 9, c.accounts)
		code := ""
		if bad != nil {
			code = bad.Code
		}
		if env.ReplyTo != c.want || code != c.code {
			t.Errorf("%s: to %q, %q", name, env.ReplyTo, code)
		}
	}
}

func TestOnlyADispatcherSaysWhoAsked(t *testing.T) {
	for text, want := range map[string]Role{"operator": RoleOperator, "tenant": RoleTenant, "root": RoleClient} {
		h := map[string][]string{HeaderRole: {text}}
		if _, env, bad := ParseStored("dspex.p.1.acme.s.call", h, 9, true); env.Role != want || bad != nil {
			t.Errorf("%s: %+v %v", text, env, bad)
		}
		for _, subject := range []string{"dspex.p.1.acme.s.session", "dspex.p.1.s", "dspex.t.acme.anonymous.batch", "dspex.anonymous.batch"} {
			if _, env, bad := ParseStored(subject, h, 9, true); env.Role != RoleClient || bad == nil || bad.Code != CodeBadHeader {
				t.Errorf("%s: %+v %v", subject, env, bad)
			}
		}
		if env, bad := ParseHeaders(h, 0); env.Role != RoleClient || bad == nil {
			t.Errorf("at an endpoint: %+v %v", env, bad)
		}
	}
	if _, env, _ := ParseStored("dspex.p.1.default.s.session", nil, 9, false); env.Role != RoleOperator {
		t.Errorf("without accounts: %+v", env)
	}
}

// TestWhoMayUseWhichCommand is the table of contract/commands.md, "Roles".
func TestWhoMayUseWhichCommand(t *testing.T) {
	session, none := SessionRef{"acme", "s"}, Anonymous("acme")
	for _, c := range []struct {
		command string
		at      SessionRef
		needs   Role
	}{
		{"shutdown", session, RoleOperator}, {"shutdown", none, RoleOperator}, {"push_program", none, RoleOperator}, {"withdraw_program", none, RoleOperator},
		{"set_lm", none, RoleOperator}, {"configure_lm", none, RoleOperator}, {"set_lm", session, RoleClient}, {"configure_lm", session, RoleClient},
		{"erase_session", session, RoleTenant}, {"import_session", session, RoleTenant}, {"erase_session", none, RoleTenant},
		{"cleanup_session", session, RoleClient}, {"cleanup", session, RoleClient}, {"reset_state", session, RoleClient}, {"predict", session, RoleClient},
		{"predict", none, RoleClient}, {"a_command_of_a_module", none, RoleClient},
	} {
		ranks := []Role{RoleClient, RoleTenant, RoleOperator}
		for i, role := range ranks {
			bad := role.Forbids(Request{Command: c.command}, c.at)
			if may := i >= slices.Index(ranks, c.needs); may != (bad == nil) {
				t.Errorf("%s at %v as %q: %v", c.command, c.at, role, bad)
			}
			if bad == nil {
				continue
			}
			if bad.Code != CodeRole || bad.Number() != 403 || bad.Retryable {
				t.Errorf("must be a final %s with 403, got %+v", CodeRole, bad)
			}
			if bad.Hint == "" || !strings.HasPrefix(bad.Message, c.command) {
				t.Errorf("must have a hint and begin with %s, got %+v", c.command, bad)
			}
		}
	}
}
