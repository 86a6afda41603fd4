package contract

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// ask sends a request to one of the endpoints of sessions.md.
func (s *service) ask(t *testing.T, endpoint string, ask m, headers ...string) reply {
	t.Helper()
	return s.request(t, "dspex.rpc."+endpoint, text(ask), headers...)
}

// filled makes a session with one of everything.
func (s *service) filled(t *testing.T, session string) {
	t.Helper()
	s.call(t, session, "create_program", m{"id": "qa", "signature": "question -> answer"}).succeeds(t)
	s.call(t, session, "predict", m{"question": "one"}).succeeds(t)
	s.call(t, session, "execute_program", m{"program_id": "qa", "inputs": m{"question": "two"}}).succeeds(t)
	s.call(t, session, "update_session_data", m{"operation": "set", "key": "k", "value": []any{1, 2.5, "three"}}).succeeds(t)
}

var briefKeys = []string{"session_id", "partition", "host", "worker_id", "created_at", "last_activity", "idle_ms", "expired", "operations", "programs_count",
	"state_version", "state_bytes", "generation"}

func TestASessionIsListedAndTold(t *testing.T) {
	stub.filled(t, "told_1")
	page := shaped(t, stub.ask(t, "sessions.list", m{"prefix": "told_1"}), "sessions")
	list := page["sessions"].([]any)
	if len(list) != 1 {
		t.Fatalf("listed %v", list)
	}
	listed := list[0].(m)
	if got := slices.Sorted(maps.Keys(listed)); !slices.Equal(got, slices.Sorted(slices.Values(briefKeys))) {
		t.Errorf("keys %v", got)
	}
	is(t, listed, m{"session_id": "told_1", "host": "dev", "operations": 4, "programs_count": 1, "generation": 0, "expired": false})
	isTime(t, listed["created_at"])
	isTime(t, listed["last_activity"])
	told := shaped(t, stub.ask(t, "sessions.get", m{"session": "told_1"}), append([]string{"epoch", "age_ms", "last_sequence", "programs", "turns", "data_keys", "lm",
		"waiting_jobs", "oldest_waiting_ms", "running"}, briefKeys...)...)
	is(t, told, m{"session_id": "told_1", "host": "dev", "operations": 4, "turns": 1, "data_keys": 1, "lm": nil, "waiting_jobs": 0, "running": nil, "oldest_waiting_ms": nil})
	program := told["programs"].([]any)[0].(m)
	is(t, program, m{"id": "qa", "program_type": "predict", "execution_count": 1})
	isTime(t, program["created_at"])
	isTime(t, program["last_executed"])
	isNumber(t, told["epoch"], 1)
	isNumber(t, told["state_bytes"], 1)
	stub.ask(t, "sessions.get", m{"session": "never_used"}).fails(t, "session", "session_unknown")
}

func TestThePagesOfAListBringEverySession(t *testing.T) {
	want := map[string]bool{}
	for n := range 25 {
		id := fmt.Sprintf("page_%d", n)
		want[id] = true
		stub.call(t, id, "append", m{"x": n}).succeeds(t)
	}
	ask := m{"prefix": "page_", "limit": 10}
	sizes := []int{}
	for {
		page := stub.ask(t, "sessions.list", ask)
		page.succeeds(t)
		list := page.Result.(m)["sessions"].([]any)
		sizes = append(sizes, len(list))
		for _, s := range list {
			delete(want, s.(m)["session_id"].(string))
		}
		cursor, more := page.Result.(m)["cursor"]
		if !more {
			break
		}
		ask["cursor"] = cursor
	}
	if len(want) > 0 || len(sizes) < 3 || sizes[0] != 10 {
		t.Errorf("pages of %v, missing %v", sizes, want)
	}
	if list := shaped(t, stub.ask(t, "sessions.list", m{"prefix": "page_", "host": "another"}), "sessions")["sessions"].([]any); len(list) != 0 {
		t.Errorf("of a host that is not there: %v", list)
	}
	if list := shaped(t, stub.ask(t, "sessions.list", m{"prefix": "page_", "idle_ms": 3_600_000}), "sessions")["sessions"].([]any); len(list) != 0 {
		t.Errorf("idle for an hour: %v", list)
	}
}

func TestASessionThatWaitsTellsWhatRunsAndWhatWaits(t *testing.T) {
	const session = "waits_1"
	first := stub.publish(t, "dspex.session."+session, text(body("sleep", m{"ms": 3_600_000}, m{"timeout": "2h"})), "Dspex-Job", "long")
	stub.publish(t, "dspex.session."+session, text(body("echo", nil)))
	stub.publish(t, "dspex.session."+session, text(body("echo", nil)))
	var told m
	for end := time.Now().Add(patience); ; { // until it runs
		if time.Now().After(end) {
			t.Fatal("the job does not run")
		}
		r := stub.ask(t, "sessions.get", m{"session": session})
		r.succeeds(t)
		if told = r.Result.(m); told["running"] != nil {
			break
		}
	}
	is(t, told, m{"waiting_jobs": 2, "operations": 0})
	is(t, told["running"].(m), m{"job": "long", "attempt": 1, "outcome": "running"})
	isNumber(t, told["oldest_waiting_ms"], 0)
	stub.request(t, "dspex.rpc.jobs.cancel", text(m{"session": session, "job": first})).succeeds(t)
}

func TestCleanupIsAJobOfTheSession(t *testing.T) {
	stub.filled(t, "cleaned_1")
	got := shaped(t, stub.ask(t, "sessions.cleanup", m{"session": "cleaned_1"}, "Dspex-Job", "clean-1"), "status", "session_id", "programs_removed")
	is(t, got, m{"status": "cleaned", "session_id": "cleaned_1", "programs_removed": 1})
	again := stub.ask(t, "sessions.cleanup", m{"session": "cleaned_1"}, "Dspex-Job", "clean-1")
	is(t, shaped(t, again, "status", "session_id", "programs_removed"), m{"programs_removed": 1}) // the first outcome
	if again.Job != "clean-1" || again.Session == nil || again.Session.ID != "cleaned_1" {
		t.Errorf("not the reply of a job: %+v", again)
	}
	stub.ask(t, "sessions.get", m{"session": "cleaned_1"}).fails(t, "session", "session_unknown")
	if list := stub.ask(t, "sessions.list", m{"prefix": "cleaned_1"}).Result.(m)["sessions"].([]any); len(list) != 0 {
		t.Errorf("a cleaned session is listed: %v", list)
	}
	stub.call(t, "cleaned_1", "append", m{"x": 1}).succeeds(t)
	is(t, stub.ask(t, "sessions.get", m{"session": "cleaned_1"}).Result.(m), m{"generation": 1, "operations": 1})
}

func TestAnExportedSessionCanBeImportedElsewhere(t *testing.T) {
	stub.filled(t, "export_1")
	document := shaped(t, stub.ask(t, "sessions.export", m{"session": "export_1"}), "schema", "session_id", "exported_at", "created_at", "last_activity",
		"operations", "generation", "state")
	is(t, document, m{"schema": 1, "session_id": "export_1", "operations": 4})
	got := shaped(t, stub.ask(t, "sessions.import", m{"session": "import_1", "document": document}), "status", "session_id", "programs_count", "turns", "revision")
	is(t, got, m{"status": "imported", "session_id": "import_1", "programs_count": 1, "turns": 1})
	stub.call(t, "import_1", "execute_program", m{"program_id": "qa", "inputs": m{"question": "three"}}).succeeds(t)
	data := stub.call(t, "import_1", "get_session_data", nil)
	data.succeeds(t)
	is(t, data.Result.(m), m{"data": m{"k": []any{1, 2.5, "three"}}})
	stub.ask(t, "sessions.import", m{"session": "import_1", "document": document}).fails(t, "session", "session_not_empty")
	stub.ask(t, "sessions.import", m{"session": "import_1", "document": document, "replace": true}).succeeds(t)
	program := stub.call(t, "import_1", "get_program_info", m{"program_id": "qa"}).Result.(m)
	is(t, program, m{"execution_count": 1})
	stub.ask(t, "sessions.export", m{"session": "never_used"}).fails(t, "session", "session_unknown")

	document["state"].(m)["lm"] = m{"model": "nobody-knows"}
	stub.ask(t, "sessions.import", m{"session": "import_2", "document": document}).refused(t, "python", "lm_unknown", "args.document.state.lm")
	document["schema"] = 2
	stub.ask(t, "sessions.import", m{"session": "import_2", "document": document}).refused(t, "session", "record_newer", "args.document.schema")
}

func TestWhatJSONCannotKeepIsExportedInMessagePack(t *testing.T) {
	set := packed(body("update_session_data", m{"operation": "set", "key": "k", "value": []byte{1, 2}}))
	stub.request(t, "dspex.rpc.session.bytes_1", set, "Content-Type", msgpackType).succeeds(t)
	stub.ask(t, "sessions.export", m{"session": "bytes_1"}).fails(t, "session", "not_json")
	answer, err := stub.nc.RequestMsg(message("dspex.rpc.sessions.export", packed(m{"session": "bytes_1"}), "Content-Type", msgpackType), patience)
	if err != nil {
		t.Fatal(err)
	}
	var exported struct {
		Result any `msgpack:"result"`
	}
	unpack(t, answer.Data, &exported)
	r := stub.request(t, "dspex.rpc.sessions.import", packed(m{"session": "bytes_2", "document": exported.Result}), "Content-Type", msgpackType)
	r.succeeds(t)
}

func TestErasureLeavesNothingOfASession(t *testing.T) {
	const session = "erase_1"
	stub.filled(t, session)
	stub.call(t, "erase_2", "append", m{"x": 1}).succeeds(t) // a neighbour
	stub.request(t, "dspex.rpc.session."+session, text(body("echo", m{"secret": "canary"})), "Dspex-Job", "job-1").succeeds(t)
	stub.request(t, "dspex.rpc.session.erase_2", text(body("echo", m{"x": 2})), "Dspex-Job", "job-1").succeeds(t)
	stub.call(t, session, "boom", m{"category": "connection", "retryable": true, "message": "canary"}, m{"max_retries": 0}).fails(t, "connection", "boom")
	dead := func() int { return len(stub.holds(t, "DSPEX_DLQ", "dspex.dlq.s."+session)) }
	if dead() != 1 {
		t.Fatalf("%d dead letters", dead())
	}
	letter := stub.ask(t, "dlq.list", m{"session": session}).keys["result"]
	var listed struct{ Letters []struct{ Sequence int } }
	if err := json.Unmarshal(letter, &listed); err != nil || len(listed.Letters) != 1 {
		t.Fatalf("%s: %v", letter, err)
	}
	stub.ask(t, "dlq.replay", m{"sequence": listed.Letters[0].Sequence}).succeeds(t)
	note := "dspex.dlq.replayed." + strconv.Itoa(listed.Letters[0].Sequence)
	if notes := stub.holds(t, "DSPEX_DLQ", note); len(notes) != 1 {
		t.Fatalf("the replay was not noted: %v", notes)
	}
	got := shaped(t, stub.ask(t, "sessions.erase", m{"session": session}, "Dspex-Job", "gone"), "status", "session_id")
	is(t, got, m{"status": "erased", "session_id": session})
	if dead() != 0 {
		t.Error("the dead letter is left")
	}
	if notes := stub.holds(t, "DSPEX_DLQ", note); len(notes) != 0 {
		t.Error("the note of its replay is left")
	}
	if results := stub.holds(t, "KV_dspex_results", "$KV.dspex_results.r.s."+session+".*"); len(results) != 1 {
		t.Errorf("results are left: %v", results) // but the erasure's own
	}
	stub.ask(t, "sessions.get", m{"session": session}).fails(t, "session", "session_unknown")
	stub.request(t, "dspex.rpc.jobs.get", text(m{"session": session, "job": "job-1"})).fails(t, "session", "job_unknown")
	stub.request(t, "dspex.rpc.jobs.get", text(m{"session": "erase_2", "job": "job-1"})).succeeds(t)
	again := stub.ask(t, "sessions.erase", m{"session": session}, "Dspex-Job", "gone")
	if again.succeeds(t); again.Job != "gone" {
		t.Errorf("a repeat: %+v", again)
	}
	r := stub.call(t, session, "append", m{"x": 1})
	r.succeeds(t)
	if list := r.Result.(m)["list"].([]any); len(list) != 1 || r.Session.State != "none" {
		t.Errorf("after the erasure: %v, state %s", list, r.Session.State)
	}
}

// holds lists the subjects of a stream that have messages.
func (s *service) holds(t *testing.T, name, subject string) []string {
	t.Helper()
	js, err := jetstream.New(s.nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter(subject))
	if err != nil {
		t.Fatal(err)
	}
	return slices.Collect(maps.Keys(info.State.Subjects))
}

func TestTheHostsAreListedDrainedAndResumed(t *testing.T) {
	hosts := func() m {
		t.Helper()
		got := shaped(t, stub.ask(t, "hosts.list", m{}), "hosts", "partitions", "unassigned", "leader")
		is(t, got, m{"partitions": 64, "leader": "dev"})
		return got["hosts"].([]any)[0].(m)
	}
	keys := []string{"host", "incarnation", "state", "drain", "partitions", "engine", "sandbox", "capacity", "free", "pool_size", "active_workers", "available_workers", "overflow_workers",
		"active_sessions", "busy_sessions", "total_requests", "total_errors", "affinity_hits", "affinity_misses", "affinity_moves", "clock_off_ms", "version", "latency"}
	host := hosts()
	if got := slices.Sorted(maps.Keys(host)); !slices.Equal(got, slices.Sorted(slices.Values(keys))) {
		t.Errorf("keys %v", got)
	}
	is(t, host, m{"host": "dev", "state": "serving", "drain": false, "partitions": 64, "engine": "stub", "pool_size": 2})
	if version, _ := host["version"].(string); version == "" {
		t.Errorf("version must be that of the program, got %v", host["version"])
	}
	for range 2 {
		is(t, shaped(t, stub.ask(t, "hosts.drain", m{"host": "dev"}), "host", "drain"), m{"host": "dev", "drain": true})
	}
	is(t, hosts(), m{"state": "draining", "drain": true, "partitions": 64}) // there is no other host
	before := ended(t, hosts())
	stub.call(t, "drained_1", "append", m{"x": 1}).succeeds(t)
	if after := ended(t, hosts()); after != before+1 {
		t.Errorf("the latencies must count one call more than %v, got %v", before, after)
	}
	for range 2 {
		is(t, shaped(t, stub.ask(t, "hosts.resume", m{"host": "dev"}), "host", "drain"), m{"host": "dev", "drain": false})
	}
	is(t, hosts(), m{"state": "serving", "drain": false})
	for _, body := range []m{{}, {"host": "dev"}} { // dspex dev without a file of settings
		one := shaped(t, stub.ask(t, "hosts.reload", body), "hosts")["hosts"].([]any)[0].(m)
		if got := slices.Sorted(maps.Keys(one)); !slices.Equal(got, []string{"faults", "file", "host", "restart", "taken"}) {
			t.Errorf("keys %v", got)
		}
		is(t, one, m{"host": "dev", "file": nil})
	}
	stub.ask(t, "hosts.reload", m{"host": "nobody"}).refused(t, "session", "host_unknown", "host")
	stub.ask(t, "hosts.drain", m{"host": "nobody"}).refused(t, "session", "host_unknown", "host")
	stub.ask(t, "hosts.resume", m{"host": "nobody"}).refused(t, "session", "host_unknown", "host")
}

// ended is how many calls a host has counted by how long they took.
func ended(t *testing.T, host m) (calls float64) {
	t.Helper()
	modes := host["latency"].(m)
	if _, there := modes["queue"]; !there || len(modes) != 2 {
		t.Errorf("latency must be of call and queue, got %v", modes)
	}
	longest := 0.0
	for _, pair := range modes["call"].([]any) {
		upper, n := isNumber(t, pair.([]any)[0], 0), isNumber(t, pair.([]any)[1], 1)
		if upper <= longest {
			t.Errorf("times must rise, got %v", modes["call"])
		}
		longest, calls = upper, calls+n
	}
	return calls
}

func TestAffinityIsCounted(t *testing.T) {
	counted := func() (hits, misses float64) {
		stats := stub.request(t, "dspex.rpc.stats.get", nil)
		stats.succeeds(t)
		extra := stats.Result.(m)["extra"].(m)
		return isNumber(t, extra["affinity_hits"], 0), isNumber(t, extra["affinity_misses"], 0)
	}
	hits, misses := counted()
	for n := range 5 {
		stub.call(t, "counted_1", "append", m{"x": n}).succeeds(t)
	}
	if h, s := counted(); h < hits+4 || s < misses+1 {
		t.Errorf("hits %v, then %v; misses %v, then %v", hits, h, misses, s)
	}
}

func TestTheEndpointsOfSessionsAndHostsRefuseBadRequests(t *testing.T) {
	for endpoint, asks := range map[string]map[string]string{
		"sessions.list": {`{"limit": 0}`: "limit", `{"limit": 1001}`: "limit", `{"limit": "5"}`: "limit", `{"cursor": "x"}`: "cursor", `{"cursor": "0"}`: "cursor",
			`{"host": "a b"}`: "host", `{"idle_ms": -1}`: "idle_ms", `{"verbose": 1}`: "verbose", `[]`: ""},
		"sessions.get":     {``: "session", `{}`: "session", `{"session": null}`: "session", `{"session": "a b"}`: "session", `{"session": "a", "job": "x"}`: "job"},
		"sessions.export":  {`{}`: "session", `{"session": 1}`: "session"},
		"sessions.cleanup": {`{}`: "session", `{"session": "a.b"}`: "session", `{"session": "a", "args": {}}`: "args"},
		"sessions.erase":   {`{}`: "session"},
		"sessions.import": {`{"session": "a"}`: "document", `{"document": {}}`: "session", `{"session": "a", "document": []}`: "document",
			`{"session": "a", "document": {}, "replace": "yes"}`: "replace"},
		"dlq.list":    {`{"error_category": "weather"}`: "error_category", `{"error_category": ""}`: "error_category", `{"limit": 501}`: "limit", `{"session": "a b"}`: "session"},
		"hosts.list":  {`{"host": "dev"}`: "host"},
		"hosts.drain": {`{}`: "host", `{"host": ""}`: "host"}, "hosts.resume": {`{"host": 1}`: "host"}, "hosts.reload": {`{"host": ""}`: "host", `{"hosts": ["dev"]}`: "hosts"},
	} {
		for ask, path := range asks {
			t.Run(endpoint+ask, func(t *testing.T) {
				stub.request(t, "dspex.rpc."+endpoint, json.RawMessage(ask)).refused(t, "python", "bad_request", path)
			})
		}
	}
	for _, category := range []string{"resource", "resource_error", "timeout", "timeout_error"} {
		stub.ask(t, "dlq.list", m{"error_category": category}).succeeds(t)
	}
	stub.ask(t, "sessions.cleanup", m{"session": "a"}, "Dspex-Job", "q7").refused(t, "python", "bad_job_id", "Dspex-Job")
	stub.ask(t, "sessions.cleanup", m{"session": "a"}, "Dspex-Mode", "queue").refused(t, "python", "bad_header", "Dspex-Mode")
}

func TestASessionWithMuchStateStaysWarm(t *testing.T) {
	const session = "large_1"
	stub.call(t, session, "update_session_data", m{"operation": "set", "key": "k", "value": strings.Repeat("x", 100_000)}).succeeds(t)
	for n := range 3 {
		r := stub.call(t, session, "update_session_data", m{"operation": "set", "key": "n", "value": n})
		r.succeeds(t)
		if r.Session.State != "warm" {
			t.Errorf("call %d: state %s", n, r.Session.State)
		}
	}
}
