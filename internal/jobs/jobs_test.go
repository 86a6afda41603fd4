package jobs

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/wire"
)

func TestIds(t *testing.T) {
	for id, want := range map[string]bool{"a": true, "user_1-2": true, "q": true, "q1x": true, "q12": false, "": false, "a b": false,
		"a.b": false, "x-r5": false, "x-r": true, "x-rx": true, strings.Repeat("a", 48): true, strings.Repeat("a", 49): false, "é": false} {
		if ValidJob(id) != want {
			t.Errorf("ValidJob(%q) = %v", id, !want)
		}
	}
	for id, want := range map[string]bool{"user_123": true, "q12": true, "": false, "a.b": false, "*": false, strings.Repeat("a", 64): true, strings.Repeat("a", 65): false} {
		if ValidSession(id) != want {
			t.Errorf("ValidSession(%q) = %v", id, !want)
		}
	}
	for subject, want := range map[string]bool{"_INBOX.a.b": true, "dspex.reply.x": true, "_INBOX.": false, "_INBOX.*": false, "_INBOX.>": false,
		"dspex.session.x": false, "$JS.API.x": false, "_INBOX..a": false, "_INBOX.a b": false, "": false, "_INBOX": false} {
		if ValidReply(subject) != want {
			t.Errorf("ValidReply(%q) = %v", subject, !want)
		}
	}
	if seq, ok := JobSequence(SequenceJob(42)); !ok || seq != 42 {
		t.Errorf("JobSequence: %d %v", seq, ok)
	}
}

func TestRequestsThatAreRefusedSayWhatWasExpected(t *testing.T) {
	for body, path := range map[string]string{
		`[]`: "", `{"command":1}`: "command", `{"command":"Predict"}`: "command", `{"command":"x","args":[]}`: "args",
		`{"command":"x","options":{"timeout":0}}`: "options.timeout", `{"command":"x","options":{"timeout":"5"}}`: "options.timeout",
		`{"command":"x","options":{"timeout":86400001}}`: "options.timeout", `{"command":"x","options":{"max_retries":21}}`: "options.max_retries",
		`{"command":"x","options":{"max_retries":1.5}}`: "options.max_retries", `{"command":"x","options":{"backoff":"quick"}}`: "options.backoff",
		`{"command":"x","options":{"jitter":0.3}}`: "options.jitter", `{"command":"x","options":{"jitter":"0.1"}}`: "options.jitter",
		`{"command":"x","options":{"backoff_cap":30001}}`: "options.backoff_cap", `{"command":"x","options":{"backoff_cap":0}}`: "options.backoff_cap",
		`{"command":"x","options":{"backoff":[]}}`: "options.backoff", `{"command":"x","options":{"stream":1}}`: "options.stream",
		`{"command":"x","options":{"module":"exec"}}`: "options.module", `{"command":"x","options":{"temperature":3}}`: "options.temperature",
		`{"command":"x","options":{"frobnicate":1}}`: "options.frobnicate", `{"command":"set_lm","args":{"model":"m","api_key":"sk"}}`: "args.api_key",
		`{"command":"configure_lm","args":{"model":"m","apikey":"sk"}}`: "args.apikey",
	} {
		_, e := ParseRequest(JSON, []byte(body), 0)
		switch {
		case e == nil:
			t.Errorf("e must not be nil; %s: %+v", body, e)
		case e.Path != path:
			t.Errorf("e.Path must be path, got %v; %s: %+v", e.Path, body, e)
		case e.Expected == "":
			t.Errorf(`e.Expected must not be ""; %s: %+v`, body, e)
		case e.Retryable:
			t.Errorf("must not hold: e.Retryable; %s: %+v", body, e)
		}
	}
}

func TestARequestsOptions(t *testing.T) {
	r, e := ParseRequest("application/json; charset=utf-8", []byte(`{"command":"predict","args":{"b":1,"a":"x"},
		"options":{"timeout":"2m","max_retries":3,"backoff":[150,300],"backoff_cap":"2s","jitter":0.25,"deadline":1500,"stream":true,"lm":"fast","require_state":true}}`), 1<<20)
	if e != nil {
		t.Fatal(e)
	}
	switch {
	case r.Timeout != 2*time.Minute:
		t.Errorf("r.Timeout must be 2*time.Minute, got %v; %+v", r.Timeout, r)
	case *r.Policy.MaxRetries != 3:
		t.Errorf("*r.Policy.MaxRetries must be 3, got %v; %+v", *r.Policy.MaxRetries, r)
	case r.Policy.Cap != 2*time.Second:
		t.Errorf("r.Policy.Cap must be 2*time.Second, got %v; %+v", r.Policy.Cap, r)
	case r.Policy.Jitter != 0.25:
		t.Errorf("r.Policy.Jitter must be 0.25, got %v; %+v", r.Policy.Jitter, r)
	case r.Deadline != 1500*time.Millisecond:
		t.Errorf("r.Deadline must be 1500*time.Millisecond, got %v; %+v", r.Deadline, r)
	case !r.Stream:
		t.Errorf("must hold: r.Stream; %+v", r)
	case r.LM != "fast":
		t.Errorf(`r.LM must be "fast", got %v; %+v`, r.LM, r)
	case !r.RequireState:
		t.Errorf("must hold: r.RequireState; %+v", r)
	case !reflect.DeepEqual(r.Policy.Backoff, Delays(150*time.Millisecond, 300*time.Millisecond)):
		t.Errorf("must hold: reflect.DeepEqual(r.Policy.Backoff, Delays(150*time.Millisecond, 300*time.Millisecond)); %+v", r)
	}
	if _, e := ParseRequest(JSON, []byte(`{"command":"set_lm","args":{"api_key":null,"model":"m","session_id":null}}`), 0); e != nil {
		t.Error("a key that is null is none:", e)
	}
	packed, err := wire.FromJSON([]byte(`{"args":{"a":"x","b":1},"command":"predict"}`), wire.Request)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := ParseRequest(MsgPack, packed, 0)
	b, _ := ParseRequest(JSON, []byte(`{"command":"predict","args":{"b":1,"a":"x"}}`), 0)
	if a.Hash != b.Hash || !bytes.Equal(a.Args, b.Args) {
		t.Error("the same payload in two spellings has two hashes")
	}
}

func TestRecordsKeepWhatTheyHold(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_123)
	rec := &Record{Stream: 5, Generation: 2, LastSequence: 9, Ended: map[uint64]Kind{11: Cancelled, 12: Expired}, State: []byte{1, 2}, StateVersion: 7,
		LM: []byte{0x80}, Created: at, Updated: at, Jobs: 3, Host: "h", Worker: "w", Last: &Outcome{Job: "j", Sequence: 9, Epoch: 4, Attempt: 2,
			Hash: [32]byte{1}, Kind: Failed, Mode: ModeCall, DeadLettered: true, ReplyTo: "_INBOX.x", Type: JSON, Body: []byte{0x80}, Failures: []Failure{{2, Timeout, "c", "m", "h/1", "T", at}}}}
	for _, trace := range []string{"", "4bf92f3577b34da6a3ce929d0e0e4736"} {
		rec.Last.Trace = trace
		got, err := ParseRecord(rec.Append(nil))
		if err != nil || !reflect.DeepEqual(got, rec) {
			t.Errorf("record: %v\n%+v\n%+v", err, got, rec)
		}
	}
	head := &AttemptRecord{Stream: 5, Epoch: 4, Sequence: 9, Attempt: 2, NotBefore: at, Delay: 400 * time.Millisecond, Delivered: 3,
		Failures: []Failure{{1, Timeout, "c", "m", "h/1", "T", at}, {2, Python, "c", "m", "", "", time.Time{}}}}
	if got, err := ParseAttemptRecord(head.Append(nil)); err != nil || !reflect.DeepEqual(got, head) {
		t.Errorf("head: %v\n%+v\n%+v", err, got, head)
	}
	res := &Result{Session: "s", Job: "j", Sequence: 9, Attempt: 2, Hash: [32]byte{3}, Kind: Succeeded, Body: []byte{0xc0}, Stored: at}
	for _, res.Trace = range []string{"", "4bf92f3577b34da6a3ce929d0e0e4736"} {
		if got, err := ParseResult(res.Append(nil)); err != nil || !reflect.DeepEqual(got, res) {
			t.Errorf("result: %v\n%+v\n%+v", err, got, res)
		}
	}
}

func TestANewerRecordIsLeftAlone(t *testing.T) {
	b := (&Record{}).Append(nil)
	b[1] = RecordVersion + 1
	if _, err := ParseRecord(b); err == nil || !strings.Contains(err.Error(), "newer version") {
		t.Errorf("%v", err)
	}
	for i := range (&Record{State: []byte("x"), Last: &Outcome{}}).Append(nil) {
		if _, err := ParseRecord((&Record{State: []byte("x"), Last: &Outcome{}}).Append(nil)[:i]); err == nil {
			t.Errorf("a record cut at %d was accepted", i)
		}
	}
}

func TestHeaders(t *testing.T) {
	env, e := ParseHeaders(map[string][]string{HeaderJob: {"j1"}, HeaderMode: {"call"}, HeaderDeadline: {"250"}, HeaderReplyTo: {"_INBOX.x"}}, 7)
	switch {
	case e != nil:
		t.Errorf("e must be nil, got %v; %+v %v", e, env, e)
	case env.Job != "j1":
		t.Errorf(`env.Job must be "j1", got %v; %+v %v`, env.Job, env, e)
	case !env.Chosen:
		t.Errorf("must hold: env.Chosen; %+v %v", env, e)
	case env.Mode != ModeCall:
		t.Errorf("env.Mode must be ModeCall, got %v; %+v %v", env.Mode, env, e)
	case env.Deadline != 250*time.Millisecond:
		t.Errorf("env.Deadline must be 250*time.Millisecond, got %v; %+v %v", env.Deadline, env, e)
	case env.ReplyTo != "_INBOX.x":
		t.Errorf(`env.ReplyTo must be "_INBOX.x", got %v; %+v %v`, env.ReplyTo, env, e)
	}
	for name, h := range map[string]map[string][]string{
		CodeBadJob: {HeaderJob: {"q9"}}, CodeBadReply: {HeaderReplyTo: {"dspex.session.x"}}, CodeBadHeader: {"Dspex-Jobb": {"x"}},
	} {
		env, e := ParseHeaders(h, 7)
		if e == nil || e.Code != name || env.Job != "q7" {
			t.Errorf("%v: %+v %v", h, env, e)
		}
	}
	for _, h := range []map[string][]string{{HeaderMode: {"x"}}, {HeaderDeadline: {"-1"}}, {"Nats-TTL": {"1s"}}, {HeaderJob: {"a", "b"}}, {HeaderJob: {""}}, {HeaderDeadline: {""}}, {HeaderReplyTo: {""}}, {HeaderContentType: {"text/xml"}}} {
		if _, e := ParseHeaders(h, 7); e == nil || e.Code != CodeBadHeader {
			t.Errorf("%v: %v", h, e)
		}
	}
	for name, expected := range map[string]string{"dspex-job": "Dspex-Job", "Dspex-Attempt": "Dspex-Job, Dspex-Deadline; of a durable publish also Dspex-Reply-To, Dspex-Mode"} {
		if _, e := ParseHeaders(map[string][]string{name: {"x"}}, 7); e == nil || e.Expected != expected {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

func TestACategoryIsReadWithAndWithoutItsEnding(t *testing.T) {
	for text, want := range map[string]Category{"timeout": Timeout, "timeout_error": Timeout, "resource": Resource, "resource_error": Resource, "system": System, "health_check_error": HealthCheck} {
		if got, ok := ParseCategory(text); !ok || got != want {
			t.Errorf("%s is read as %q", text, got)
		}
	}
	for _, text := range []string{"", "_error", "error", "Timeout", "timeout_error_error"} {
		if got, ok := ParseCategory(text); ok {
			t.Errorf("%q is read as %q", text, got)
		}
	}
}

func TestWhoseFaultAnErrorIs(t *testing.T) {
	for code, requested := range map[string]bool{
		CodeBadInput: true, CodeSecret: true, "program_unknown": true, CodeConflict: true, CodeCancelled: true, CodeStateTooLarge: true,
		CodeExpired: false, CodeQueueFull: false, CodeOverloaded: false, CodeWorkerDied: false, CodeLMServer: false, "user_error": false, CodeBug: false,
	} {
		if e := Errorf(Python, code, "x"); e.Requested() != requested {
			t.Errorf("%s: %t", code, !requested)
		}
	}
}
