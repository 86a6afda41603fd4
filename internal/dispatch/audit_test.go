package dispatch_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/dispatch"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// record is one of the audit trail.
type record struct {
	Action, Role, Tenant, Outcome, Job string
	Args                               map[string]any
	Who                                map[string]any
	Error                              struct{ Code string }
	Bytes                              int    `json:"body_bytes"`
	Hash                               string `json:"body_sha256"`
}

// trailOf reads the trail until it has that many records.
func trailOf(t *testing.T, nc *nats.Conn, want int) (all []record) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		m, err := nc.Request(jobs.RPCAuditList, []byte(`{"limit": 500}`), 30*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		var r struct{ Result struct{ Records []record } }
		if err := json.Unmarshal(m.Data, &r); err != nil {
			t.Fatalf("%v: %s", err, m.Data)
		}
		if all = r.Result.Records; len(all) >= want || time.Now().After(end) {
			return all
		}
	}
}

// endpoints are all that a dispatcher serves: a body for each, and what of it is recorded ("": nothing).
var endpoints = map[string]struct{ body, action string }{
	"session":          {`{"command":"echo","args":{}}`, ""},
	"anonymous":        {`{"command":"shutdown","args":{}}`, "call.shutdown"},
	"admin-session":    {`{"command":"erase_session","args":{}}`, "call.erase_session"},
	"admin-anonymous":  {`{"command":"set_lm","args":{"model":"m","provider":"ollama"}}`, "call.set_lm"},
	"jobs-get":         {`{"job":"nope"}`, ""}, // of a broker with accounts an operator's: test/production
	"jobs-cancel":      {`{"job":"nope"}`, ""},
	"jobs-list":        {``, ""},
	"jobs-submit":      {`{}`, ""}, // of a broker with accounts an operator's
	"dlq-list":         {``, ""},
	"dlq-show":         {`{"sequence":7}`, "dlq.show"},
	"dlq-replay":       {`{"sequence":7}`, "dlq.replay"},
	"dlq-purge":        {`{"all":true}`, "dlq.purge"},
	"health":           {``, ""},
	"stats":            {``, ""},
	"sessions-list":    {``, ""},
	"sessions-get":     {`{"session":"s1"}`, ""},
	"sessions-export":  {`{"session":"s1"}`, "sessions.export"},
	"sessions-cleanup": {`{"session":"s1"}`, "sessions.cleanup"},
	"sessions-import":  {`{"session":"s1","document":{"schema":1},"replace":true}`, "sessions.import"},
	"sessions-erase":   {`{"session":"s1"}`, "sessions.erase"},
	"hosts-list":       {``, ""},
	"hosts-drain":      {`{"host":"h1"}`, "hosts.drain"},
	"hosts-resume":     {`{"host":"h1"}`, "hosts.resume"},
	"hosts-reload":     {`{"host":"h1"}`, "hosts.reload"},
	"partitions-get":   {``, ""},
	"partitions-set":   {`{"partitions":32}`, "partitions.set"},
	"consumers-list":   {``, ""},
	"consumers-remove": {`{"stream":"DSPEX_JOBS","consumer":"spy"}`, "consumers.remove"},
	"breakers-list":    {``, ""},
	"breakers-reset":   {`{"name":"lm.x"}`, "breakers.reset"},
	"audit-list":       {`{"limit":1}`, ""},
	"batches-upload":   {`{"batch":"b1"}`, ""}, // these, too, of a broker with accounts
	"batches-submit":   {`{"batch":"b1"}`, ""},
	"batches-get":      {`{"batch":"b1"}`, ""},
	"batches-list":     {``, ""},
	"batches-results":  {`{"batch":"b1"}`, ""},
	"batches-cancel":   {`{"batch":"b1"}`, ""},
	"batches-erase":    {`{"batch":"b1"}`, ""},
	"objects-get":      {`{"job":"q1","object":"ABCDEFGHIJKLMNOPQRSTUVWXYZ"}`, ""}, // these, too
	"objects-upload":   {`{"data":"e30="}`, ""},
	"objects-complete": {`{}`, ""},
}

// TestEachEndpointIsAuditedOrSaidNotToBe: what is served and not in the table fails the test.
func TestEachEndpointIsAuditedOrSaidNotToBe(t *testing.T) {
	nc := start(t)
	m, err := nc.Request("$SRV.INFO.dspex", nil, 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var info struct {
		Endpoints []struct{ Name, Subject string }
	}
	if err := json.Unmarshal(m.Data, &info); err != nil {
		t.Fatal(err)
	}
	var want, have []string
	for _, e := range info.Endpoints {
		try, known := endpoints[e.Name]
		if !known {
			t.Errorf("the endpoint %s is not in this test's table: say what of it is audited", e.Name)
			continue
		}
		if err := nc.PublishRequest(strings.Replace(e.Subject, "*", "s1", 1), nc.NewInbox(), []byte(try.body)); err != nil {
			t.Fatal(err)
		}
		if try.action != "" {
			want = append(want, try.action)
		}
	}
	if len(info.Endpoints) != len(endpoints) {
		t.Errorf("%d endpoints, the table has %d", len(info.Endpoints), len(endpoints))
	}
	for _, r := range trailOf(t, nc, len(want)) {
		have = append(have, r.Action)
		switch {
		case r.Role != "operator":
			t.Errorf(`r.Role must be "operator", got %v; %+v`, r.Role, r)
		case r.Who != nil:
			t.Errorf("r.Who must be nil, got %v; %+v", r.Who, r)
		case len(r.Hash) != 64:
			t.Errorf("len(r.Hash) must be 64, got %v; %+v", len(r.Hash), r)
		case r.Bytes != bodyOf(r.Action):
			t.Errorf("r.Bytes: got %v, want %v; %+v", r.Bytes, bodyOf(r.Action), r)
		}
		if accepted := slices.Contains([]string{"call.shutdown", "call.erase_session", "call.set_lm", "dlq.purge", "sessions.cleanup", "sessions.import", "sessions.erase", "partitions.set"}, r.Action); accepted != (r.Outcome == "accepted") || accepted != (r.Error.Code == "") {
			t.Errorf("%+v", r)
		}
		if became := r.Job != ""; became != (strings.HasPrefix(r.Action, "call.") || strings.HasPrefix(r.Action, "sessions.") && r.Action != "sessions.export") {
			t.Errorf("%+v", r)
		}
	}
	slices.Sort(want)
	slices.Sort(have)
	if !slices.Equal(have, want) {
		t.Errorf("recorded %q\nwant     %q", have, want)
	}
}

func bodyOf(action string) int {
	for _, e := range endpoints {
		if e.action == action {
			return len(e.body)
		}
	}
	return -1
}

// TestTheAuditTrailHoldsNoContents: neither what a client has sent nor a key is in it.
func TestTheAuditTrailHoldsNoContents(t *testing.T) {
	nc := start(t)
	const secret = "sk-verysecret"
	for subject, body := range map[string]string{
		jobs.RPCAdminAnonymous:  `{"command":"set_lm","args":{"model":"m","provider":"openai","api_key":"` + secret + `"}}`,
		jobs.RPCAnonymous:       `{"command":"configure_lm","args":{"model":"m","provider":"openai","api_key":"file:/` + secret + `"}}`,
		jobs.RPCSessionsImport:  `{"session":"s1","document":{"state":{"note":"` + secret + `"}}}`,
		jobs.RPCHostsDrain:      `{"host":"h1","` + secret + `":"` + secret + `"}`,
		jobs.RPCBreakersReset:   `{"name":"` + strings.Repeat(secret, 20) + `"}`,
		jobs.RPCConsumersRemove: `{"stream":{"` + secret + `":1}}`,
		jobs.RPCPartitionsSet:   `{"partitions":` + secret + `}`,
	} {
		if err := nc.PublishRequest(subject, nc.NewInbox(), []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if all := trailOf(t, nc, 6); len(all) != 6 { // a call that cannot be read is nobody's in particular
		t.Errorf("%d records: %+v", len(all), all)
	}
	next := uint64(0)
	for more := true; more; {
		end, err := stream.GetPage(t.Context(), nc, stream.Page{Stream: stream.Audit, Subject: contract.SubjectAudit, From: next, Messages: 100, Bytes: 1 << 20}, func(m stream.Stored) error {
			if bytes.Contains(m.Data, []byte(secret)) || strings.Contains(m.Subject, secret) {
				t.Errorf("%s: %s", m.Subject, m.Data)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		next, more = end, end > 0
	}
}

// TestTheAuditTrailIsReadPageByPage and goes on with what is new.
func TestTheAuditTrailIsReadPageByPage(t *testing.T) {
	nc := start(t)
	drain := func(host string) {
		if _, err := nc.Request(jobs.RPCHostsDrain, fmt.Appendf(nil, `{"host":%q}`, host), 30*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	var hosts []string
	for i := range 5 {
		hosts = append(hosts, fmt.Sprintf("h%d", i))
		drain(hosts[i])
	}
	var seen []string
	ask := map[string]any{"limit": 2, "action": "hosts.drain", "newer_than_ms": 3600000}
	read := func() (more bool) {
		body, err := json.Marshal(ask)
		if err != nil {
			t.Fatal(err)
		}
		m, err := nc.Request(jobs.RPCAuditList, body, 30*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		var r struct {
			Result struct {
				Records []record
				Cursor  string
				More    bool
			}
		}
		if err := json.Unmarshal(m.Data, &r); err != nil || r.Result.Cursor == "" {
			t.Fatalf("%v: %s", err, m.Data)
		}
		for _, one := range r.Result.Records {
			seen = append(seen, fmt.Sprint(one.Args["host"]))
		}
		ask["cursor"] = r.Result.Cursor
		return r.Result.More
	}
	for read() {
	}
	if !slices.Equal(seen, hosts) {
		t.Errorf("read %q, want %q", seen, hosts)
	}
	if seen = nil; read() || len(seen) > 0 {
		t.Errorf("nothing is new, read %q", seen)
	}
	drain("h5")
	if read() || !slices.Equal(seen, []string{"h5"}) {
		t.Errorf("read %q, want what is new", seen)
	}
	m, err := nc.Request(jobs.RPCAuditList, []byte(`{"tenant":"nobodys"}`), 30*time.Second)
	if err != nil || !strings.Contains(string(m.Data), `"records":[]`) {
		t.Errorf("%v: %s", err, m.Data)
	}
}

// TestNobodyTakesRecordsAway: the stream refuses it to everyone.
func TestNobodyTakesRecordsAway(t *testing.T) {
	nc := start(t)
	if _, err := nc.Request(jobs.RPCHostsDrain, []byte(`{"host":"h1"}`), 30*time.Second); err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), stream.Audit)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context()); err == nil {
		t.Error("it was purged")
	}
	if err := s.DeleteMsg(t.Context(), s.CachedInfo().State.FirstSeq); err == nil {
		t.Error("a record was deleted")
	}
	cfg := s.CachedInfo().Config
	cfg.DenyPurge, cfg.DenyDelete = false, false
	if _, err := js.UpdateStream(t.Context(), cfg); err == nil {
		t.Error("it was made to allow it")
	}
	if all := trailOf(t, nc, 1); len(all) != 1 {
		t.Errorf("%+v", all)
	}
}

// unrecorded is how many actions a dispatcher could not record.
func unrecorded(t *testing.T, d *dispatch.Dispatcher) (n float64) {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(d)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "dspex_audit_lost_total" {
			n = f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	return n
}

func TestAnActionThatCannotBeRecordedIsDoneAndCounted(t *testing.T) {
	nc, d := probing(t, nil)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	healthIs(t, nc, func(h healthy) bool { return h.OK })
	for end := time.Now().Add(time.Minute); unrecorded(t, d) == 0; { // the dispatcher may be faster, and make it again
		if time.Now().After(end) {
			t.Fatal("every action is recorded, without a stream")
		}
		if err := js.DeleteStream(t.Context(), stream.Audit); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			t.Fatal(err)
		}
		m, err := nc.Request(jobs.RPCHostsDrain, []byte(`{"host":"h1"}`), 30*time.Second)
		if err != nil || !strings.Contains(string(m.Data), `"drain":true`) {
			t.Fatalf("%v: %s", err, m.Data)
		}
	}
	healthIs(t, nc, func(h healthy) bool {
		told := strings.Join(h.Result.Reasons, "\n")
		return strings.Contains(told, "actions of operators could not be recorded in DSPEX_AUDIT") && strings.Contains(told, "stream DSPEX_AUDIT was lost and recreated")
	})
	if m, err := nc.Request(jobs.RPCHostsResume, []byte(`{"host":"h1"}`), 30*time.Second); err != nil || !strings.Contains(string(m.Data), `"drain":false`) {
		t.Fatalf("%v: %s", err, m.Data)
	}
	if all := trailOf(t, nc, 1); len(all) == 0 || all[len(all)-1].Action != "hosts.resume" {
		t.Errorf("%+v", all)
	}
}
