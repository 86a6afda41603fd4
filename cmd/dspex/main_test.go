package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/programtest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"dspex": func() { os.Exit(run()) }})
}

// TestScripts runs testdata/script/*.txtar: each is a session at a terminal, against a stand-in for dspex behind a real broker.
// In the scripts UNTOUCHED_URL is a stand-in that none of them changes, and EMPTY_URL a broker without dspex. NOBODY_URL is an address where
// nothing listens. DENYING_URL is a broker whose user me (password pw) may publish to no subject of dspex.
func TestScripts(t *testing.T) {
	served, empty := natstest.Run(t), natstest.Run(t)
	denying := natstest.Run(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "me", Password: "pw", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"dspex.>"}}}}}
	})
	natstest.StartFake(t, served)
	untouched := natstest.Run(t)
	natstest.StartFake(t, untouched)
	nobody := natstest.Nobody(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("NATS_URL", served.ClientURL())
			env.Setenv("EMPTY_URL", empty.ClientURL())
			env.Setenv("UNTOUCHED_URL", untouched.ClientURL())
			env.Setenv("NOBODY_URL", nobody)
			env.Setenv("DENYING_URL", denying.ClientURL())
			env.Setenv("HOME", env.WorkDir)
			return nil
		},
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"fails": programtest.Fails, "cmpjson": compareJSON, "writecontext": writeContext},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// compareJSON compares the result of the reply on standard output with a file, as values.
func compareJSON(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: cmpjson file")
	}
	var reply struct{ Result any }
	var want any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &reply))
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &want))
	if !reflect.DeepEqual(reply.Result, want) {
		ts.Fatalf("got  %v\nwant %v", reply.Result, want)
	}
}

// writeContext makes a context of the nats command line for the served broker.
func writeContext(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: writecontext name")
	}
	text, err := json.Marshal(map[string]string{"url": ts.Getenv("NATS_URL"), "inbox_prefix": "_INBOX.me"})
	ts.Check(err)
	path := ts.MkAbs(filepath.Join(".config", "nats", "context", args[0]+".json"))
	ts.Check(os.MkdirAll(filepath.Dir(path), 0o755))
	ts.Check(os.WriteFile(path, text, 0o644))
}
