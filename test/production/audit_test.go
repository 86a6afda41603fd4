package production

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/natstest"
)

// TestTheAuditTrailTellsWhoDidWhat through the shipped accounts: the broker reports who it was.
func TestTheAuditTrailTellsWhoDidWhat(t *testing.T) {
	fresh(t)
	s := walled(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	as := func(user string) *nats.Conn {
		return natstest.Connect(t, s, nats.UserInfo(user, password(user)), nats.CustomInboxPrefix("_INBOX."+user))
	}
	client, operator := as("client"), dspex.New(as("operator")).Admin()
	if err := operator.DrainHost(ctx, "h1"); err != nil {
		t.Fatal(err)
	}
	if err := operator.ResumeHost(ctx, "h1"); err != nil {
		t.Fatal(err)
	}
	for subject, body := range map[string]string{
		"dspex.rpc.anonymous":  `{"command":"set_lm","args":{"model":"m","provider":"openai"}}`,
		"dspex.rpc.session.s1": `{"command":"shutdown","args":{}}`,
		"dspex.rpc.session.s2": `{"command":"echo","args":{"x":"nobody's business"}}`,
	} {
		header := nats.Header{"Nats-Request-Info": {`{"acc":"OPERATOR","user":"somebody else"}`}}
		if _, err := client.RequestMsg(&nats.Msg{Subject: subject, Data: []byte(body), Header: header}, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := as("operator").Request("dspex.rpc.jobs.get", []byte(`{"session":"s2","job":"q1"}`), time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, err := as("operator").Request("dspex.rpc.admin.anonymous", []byte(`{"command":"set_lm","args":{"model":"m","provider":"openai","api_key":"sk-secret"}}`), time.Minute); err != nil {
		t.Fatal(err)
	}
	type row struct{ action, role, account, user, tenant, outcome string }
	var have []row
	for r, err := range operator.Audit(ctx, dspex.AuditFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(r.Raw, []byte("nobody's business")) || bytes.Contains(r.Raw, []byte("sk-secret")) || bytes.Contains(r.Raw, []byte("pw-of")) {
			t.Errorf("%s", r.Raw)
		}
		have = append(have, row{r.Action, r.Role, r.Who.Account, r.Who.User, r.Tenant, r.Outcome})
	}
	want := []row{
		{"hosts.drain", "operator", "OPERATOR", "operator", "default", "accepted"},
		{"hosts.resume", "operator", "OPERATOR", "operator", "default", "accepted"},
		{"call.set_lm", "client", "default", "", "default", "refused"},
		{"call.shutdown", "client", "default", "", "default", "refused"},
		{"jobs.get", "operator", "OPERATOR", "operator", "default", "refused"},
		{"call", "operator", "OPERATOR", "operator", "default", "refused"}, // what cannot be read names no command
	}
	if len(have) != len(want) {
		t.Fatalf("recorded %+v", have)
	}
	if have[2].action == "call.shutdown" { // the two are sent in no particular order
		have[2], have[3] = have[3], have[2]
	}
	for i := range want {
		if have[i] != want[i] {
			t.Errorf("record %d is %+v, want %+v", i, have[i], want[i])
		}
	}
	cli := func(user string) (string, error) {
		cmd := exec.Command(filepath.Join(bin, "dspex"), "audit", "-o", "jsonl")
		cmd.Env = append(environ(user), "NATS_URL="+s.ClientURL())
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := cli("operator")
	var first struct{ Action string }
	if line, _, _ := strings.Cut(out, "\n"); err != nil || json.Unmarshal([]byte(line), &first) != nil || first.Action != "hosts.drain" {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := cli("client"); err == nil || !strings.Contains(out, "permission denied") {
		t.Errorf("a client reads the trail: %v: %s", err, out)
	}
}
