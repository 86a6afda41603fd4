package doctor

import (
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/dspex/dspex/internal/natstest"
)

func TestWhatAUserMayDoIsShown(t *testing.T) {
	allow := func(publish ...string) *server.Permissions {
		return &server.Permissions{Publish: &server.SubjectPermission{Allow: publish}}
	}
	const info = "$SYS.REQ.USER.INFO"
	s := natstest.Run(t, func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "all", Password: "x"},
			{Username: "client", Password: "x", Permissions: allow(info, "dspex.rpc.>", "dspex.session.*", "dspex.anonymous.>", "$JS.API.INFO")},
			{Username: "service", Password: "x", Permissions: allow(info, "dspex.>", "$JS.API.>")},
			{Username: "nobody", Password: "x", Permissions: allow(info)},
			{Username: "silent", Password: "x", Permissions: allow("dspex.>")},
		}
	})
	for user, of := range map[string]struct {
		level Level
		part  string
	}{
		"all":     {Fine, "all may do everything in the account $G"},
		"client":  {Note, "client of the account $G may run jobs, publish jobs; not: operate, look at streams, change streams"},
		"service": {Fine, "service of the account $G may run jobs, publish jobs, operate, look at streams, change streams"},
		"nobody":  {Warning, "may neither run jobs nor operate"},
		"silent":  {Note, `not known: permission denied: Publish to "` + info + `"`},
	} {
		d, nc := connected(t, s, user)
		if d.user(t.Context(), nc); !has(d, "user", of.level, of.part) {
			t.Errorf("%s: want %s %q, got %+v", user, of.level, of.part, d.findings)
		}
	}
}

func TestSubjectsArePermittedAsTheBrokerHasIt(t *testing.T) {
	s := subjects{Allow: []string{"a.*.c", "b.>"}, Deny: []string{"b.x"}}
	for subject, want := range map[string]bool{"a.b.c": true, "a.b": false, "a.b.c.d": false, "b.y": true, "b.x": false, "b": false, "c": false} {
		if got := s.permits(subject); got != want {
			t.Errorf("%s: got %v", subject, got)
		}
	}
	if !(subjects{Deny: []string{"x"}}).permits("y") {
		t.Error("without a list of what is allowed, all is")
	}
}
