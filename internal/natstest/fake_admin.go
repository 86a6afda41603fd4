package natstest

import (
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/micro"

	"github.com/dspex/dspex/internal/contract"
)

// fakeSessions are the sessions that a Fake lists: a_1 to a_5 and bob, until they are cleaned up or erased.
func fakeSessions() map[string]bool {
	return map[string]bool{"a_1": true, "a_2": true, "a_3": true, "a_4": true, "a_5": true, "bob": true}
}

func fakeBrief(id string) string {
	return fmt.Sprintf(`"session_id":%q,"worker_id":"h1/0","host":"h1","partition":7,"generation":0,"created_at":"2026-01-02T03:04:05.000Z",
		"last_activity":"2026-01-02T04:04:05.000Z","idle_ms":90000,"expired":false,"operations":12,"programs_count":1,"state_version":9,"state_bytes":2048`, id)
}

const fakeDetails = `"epoch":70,"age_ms":7200000,"last_sequence":33,"programs":[{"id":"qa_bot","program_type":"predict","execution_count":3,
	"created_at":"2026-01-02T03:04:06.000Z","last_executed":null}],"turns":4,"data_keys":2,"lm":{"model":"fast","temperature":0.2},"waiting_jobs":2,"oldest_waiting_ms":1500,
	"running":{"job":"q34","sequence":34,"attempt":2,"outcome":"retrying"}`

type fakeAsk struct {
	Session, Prefix, Host, Cursor string
	Limit                         int
	Document                      struct{ Schema int }
	Replace                       bool
}

// sessions answers dspex.rpc.sessions.*.
func (f *Fake) sessions(r micro.Request) {
	var q fakeAsk
	if err := json.Unmarshal(r.Data(), &q); err != nil {
		r.Error("400", err.Error(), nil)
		return
	}
	verb := r.Subject()[strings.LastIndexByte(r.Subject(), '.')+1:]
	f.mu.Lock()
	defer f.mu.Unlock()
	switch known := f.known[q.Session]; {
	case verb == "list":
		r.Respond(f.list(q))
	case verb == "import" && known && !q.Replace:
		f.sayJob(r, failed(q.Session, "", contract.Session, contract.CodeSessionNotEmpty, "the session has state already", 0))
	case verb == "import":
		f.known[q.Session] = true
		f.sayJob(r, succeeded(q.Session, "", map[string]any{"status": "imported", "session_id": q.Session, "programs_count": 1, "turns": 4, "revision": 1}))
	case verb == "cleanup" || verb == "erase":
		delete(f.known, q.Session)
		f.sayJob(r, succeeded(q.Session, "", map[string]any{"status": map[string]string{"cleanup": "cleaned", "erase": "erased"}[verb], "session_id": q.Session}))
	case !known:
		r.Respond(failed(q.Session, "", contract.Session, contract.CodeSessionUnknown, "unknown session", 0))
	case verb == "get":
		r.Respond([]byte(`{"ok":true,"result":{` + fakeBrief(q.Session) + `,` + fakeDetails + `}}`))
	case verb == "export":
		r.Respond([]byte(`{"ok":true,"result":{"schema":1,"session_id":"` + q.Session + `","state":{"v":1,"programs":{}}}}`))
	}
}

// sayJob answers with a job's reply, under the id that was requested.
func (f *Fake) sayJob(r micro.Request, body []byte) {
	if id := r.Headers().Get(contract.HeaderJob); id != "" {
		body = []byte(strings.Replace(string(body), `"job":""`, `"job":"`+id+`"`, 1))
	}
	r.Respond(body)
}

// list pages by two sessions at most, whatever is requested, so that reading all requires the cursor.
func (f *Fake) list(q fakeAsk) []byte {
	var ids []string
	for id := range f.known {
		if strings.HasPrefix(id, q.Prefix) && (q.Host == "" || q.Host == "h1") {
			ids = append(ids, id)
		}
	}
	sort.Strings(ids)
	from, _ := strconv.Atoi(q.Cursor)
	to := min(from+min(q.Limit, 2), len(ids))
	var rows []string
	for _, id := range ids[min(from, to):to] {
		rows = append(rows, "{"+fakeBrief(id)+"}")
	}
	cursor := ""
	if to < len(ids) {
		cursor = fmt.Sprintf(`,"cursor":"%d"`, to)
	}
	return []byte(`{"ok":true,"result":{"sessions":[` + strings.Join(rows, ",") + `]` + cursor + `}}`)
}

// fakeJobs are the jobs that a Fake lists.
var fakeJobs = []string{
	`{"job":"q34","session":"bob","outcome":"retrying","attempts":2,"command":"predict","mode":"queue","accepted_at":"2026-01-02T03:04:05.000Z"}`,
	`{"job":"q35","session":null,"outcome":"queued","attempts":0,"command":"echo","mode":"queue","lane":"batch","accepted_at":"2026-01-02T03:04:06.000Z"}`,
	`{"job":"order-1","session":"bob","outcome":"failed","attempts":3,"ended_at":"2026-01-02T03:04:07.000Z","code":"operation_timeout"}`,
}

// listJobs answers dspex.rpc.jobs.list, one job a page, filtered by outcome and session alone.
func (f *Fake) listJobs(r micro.Request) {
	var q struct{ Session, Outcome, Cursor string }
	if err := json.Unmarshal(r.Data(), &q); err != nil {
		r.Error("400", err.Error(), nil)
		return
	}
	var fit []string
	for _, job := range fakeJobs {
		if strings.Contains(job, `"outcome":"`+q.Outcome) && strings.Contains(job, `"session":"`+q.Session) || q.Session+q.Outcome == "" {
			fit = append(fit, job)
		}
	}
	at, _ := strconv.Atoi(q.Cursor)
	cursor := ""
	if at+1 < len(fit) {
		cursor = fmt.Sprintf(`,"cursor":"%d"`, at+1)
	}
	fmt.Fprintf(responder{r}, `{"ok":true,"result":{"jobs":[%s]%s}}`, strings.Join(fit[min(at, len(fit)):min(at+1, len(fit))], ","), cursor)
}

// hosts answers dspex.rpc.hosts.*: h1 is alive, h2 has gone with 3 partitions.
func (f *Fake) hosts(r micro.Request) {
	var q struct{ Host string }
	if err := json.Unmarshal(r.Data(), &q); err != nil {
		r.Error("400", err.Error(), nil)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	verb := r.Subject()[strings.LastIndexByte(r.Subject(), '.')+1:]
	if verb != "list" && q.Host != "h1" && (verb != "reload" || q.Host != "") {
		r.Respond(failed("", "", contract.Session, contract.CodeHostUnknown, "no live host has that name", 0))
		return
	}
	state := "serving"
	switch verb {
	case "drain":
		f.drained = true
	case "resume":
		f.drained = false
	}
	if f.drained {
		state = "draining"
	}
	if verb == "reload" {
		fmt.Fprint(responder{r}, `{"ok":true,"result":{"hosts":[{"host":"h1","file":"/etc/dspex.yaml","taken":[{"key":"pool_size","was":"2","is":"4","why":null},{"key":"lm","was":null,"is":null,"why":null}],
			"restart":[{"key":"slots","was":"64","is":"32","why":null}],"faults":[]}]}}`)
		return
	}
	if verb != "list" {
		fmt.Fprintf(responder{r}, `{"ok":true,"result":{"host":"h1","drain":%t}}`, f.drained)
		return
	}
	fmt.Fprintf(responder{r}, `{"ok":true,"result":{"hosts":[{"host":"h1","incarnation":"abc","state":%q,"drain":%t,"partitions":61,"engine":"fake 0","capacity":128,"free":120,
		"pool_size":2,"active_workers":2,"available_workers":2,"overflow_workers":1,"active_sessions":6,"busy_sessions":1,"total_requests":1542,"total_errors":12,"affinity_hits":990,"affinity_misses":6,
		"affinity_moves":4},{"host":"h2","state":"gone","drain":false,"partitions":3}],"partitions":64,"unassigned":0,"leader":"d1"}}`, state, f.drained)
}

// breakers answers dspex.rpc.breakers.*: that of a language model is open until it is reset.
func (f *Fake) breakers(r micro.Request) {
	var q struct{ Name string }
	if err := json.Unmarshal(r.Data(), &q); err != nil {
		r.Error("400", err.Error(), nil)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	const model = "lm.openai/gpt-4o"
	list := strings.HasSuffix(r.Subject(), ".list")
	if !list && q.Name != model {
		r.Respond(failed("", "", contract.Session, contract.CodeBreakerUnknown, "there is no such circuit breaker", 0))
		return
	}
	f.breakerReset = f.breakerReset || !list
	lm := `{"name":"` + model + `","state":"open","failure_count":5,"success_count":0,"half_open_count":0,"last_failure":{"what":"resource_error/lm_rate_limit",
		"at":"2026-01-02T03:04:05.678Z"},"last_state_change":"2026-01-02T03:04:05.678Z","time_until_retry":42000,"config":{"failure_threshold":5,"success_threshold":3,"timeout":60000}}`
	if f.breakerReset {
		lm = closedBreaker(model)
	}
	if !list {
		fmt.Fprintf(responder{r}, `{"ok":true,"result":%s}`, lm)
		return
	}
	fmt.Fprintf(responder{r}, `{"ok":true,"result":{"breakers":[%s,%s]}}`, lm, closedBreaker("pool.h1"))
}

func closedBreaker(name string) string {
	return `{"name":"` + name + `","state":"closed","failure_count":0,"success_count":0,"half_open_count":0,"last_failure":null,"last_state_change":"2026-01-02T03:00:00.000Z",
		"time_until_retry":0,"config":{"failure_threshold":5,"success_threshold":3,"timeout":60000}}`
}

const fakeDeadLetter = `"sequence":17,"job":"order-1","session":"bob","mode":"queue","command":"predict","attempts":2,"error_category":"timeout","code":"operation_timeout",
	"message":"the attempt took longer than 30s","buried_at":"2026-01-02T03:04:05.000Z","accepted_at":"2026-01-02T03:03:05.000Z","bytes":62,"replayed":null`

const fakeFailure = `{"attempt":%d,"error_category":"timeout","code":"operation_timeout","message":"the attempt took longer than 30s","worker":"h1/0","at":"2026-01-02T03:04:05.000Z"}`

// deadLetters answers dspex.rpc.dlq.*: there is one, 17, for every filter and after every purge.
func (f *Fake) deadLetters(r micro.Request) {
	var q struct{ Sequence uint64 }
	if err := json.Unmarshal(r.Data(), &q); err != nil {
		r.Error("400", err.Error(), nil)
		return
	}
	if q.Sequence != 0 && q.Sequence != 17 {
		r.Respond(failed("", "", contract.Session, contract.CodeDeadLetterUnknown, "there is no such dead letter", 0))
		return
	}
	switch verb := r.Subject()[strings.LastIndexByte(r.Subject(), '.')+1:]; verb {
	case "list":
		fmt.Fprintf(responder{r}, `{"ok":true,"result":{"letters":[{%s}]}}`, fakeDeadLetter)
	case "show":
		fmt.Fprintf(responder{r}, `{"ok":true,"result":{%s,"request":{"command":"predict","args":{"question":"Why?"}},"failures":[`+fakeFailure+`,`+fakeFailure+`]}}`, fakeDeadLetter, 1, 2)
	case "replay":
		fmt.Fprint(responder{r}, `{"ok":true,"result":{"replayed":[{"sequence":17,"session":"bob","job":"order-1-r17","again":false}]}}`)
	case "purge":
		fmt.Fprint(responder{r}, `{"ok":true,"result":{"purged":1}}`)
	}
}

type responder struct{ micro.Request }

func (r responder) Write(b []byte) (int, error) { return len(b), r.Respond(b) }

// consumers answers dspex.rpc.consumers.*: DSPEX_JOBS has a foreign one, spy, until it is removed.
func (f *Fake) consumers(r micro.Request) {
	var q struct{ Stream, Consumer string }
	if err := json.Unmarshal(r.Data(), &q); err != nil {
		r.Error("400", err.Error(), nil)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case strings.HasSuffix(r.Subject(), ".list") && f.removed:
		r.Respond([]byte(`{"ok":true,"result":{"consumers":[]}}`))
	case strings.HasSuffix(r.Subject(), ".list"):
		r.Respond([]byte(`{"ok":true,"result":{"consumers":[{"stream":"DSPEX_JOBS","consumer":"spy","filters":["dspex.p.7.>"]}]}}`))
	case f.removed || q.Stream != "DSPEX_JOBS" || q.Consumer != "spy":
		r.Respond(failed("", "", "session", "consumer_unknown", "the stream has no such consumer", 0))
	default:
		f.removed = true
		r.Respond([]byte(`{"ok":true,"result":{"stream":"DSPEX_JOBS","consumer":"spy"}}`))
	}
}

// partitions answers dspex.rpc.partitions.*: a change is over at the second look.
func (f *Fake) partitions(r micro.Request) {
	var q struct{ Partitions int }
	if err := json.Unmarshal(r.Data(), &q); err != nil {
		r.Error("400", err.Error(), nil)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.number == 0 {
		f.number = 64
	}
	serving, left := f.number, 0
	if strings.HasSuffix(r.Subject(), ".set") && q.Partitions != f.number {
		f.number, left = q.Partitions, 3
	}
	fmt.Fprintf(responder{r}, `{"ok":true,"result":{"changing":%t,"partitions":%d,"serving":%d,"waiting":0,"held":%d}}`, left > 0, f.number, serving, left)
}

// fakeRecords are an action of an operator and one that a client was refused.
var fakeRecords = []string{
	`{"schema":1,"sequence":4,"at":"2026-01-02T03:04:05.000Z","dispatcher":"d1","action":"hosts.drain","role":"operator","who":{"account":"OPERATOR","user":"operator","host":"10.0.0.7"},"tenant":"default",
		"args":{"host":"h1"},"body_bytes":13,"body_sha256":"aa","outcome":"accepted"}`,
	`{"schema":1,"sequence":5,"at":"2026-01-02T04:04:05.000Z","dispatcher":"d1","action":"call.set_lm","role":"client","who":{"account":"acme"},"tenant":"acme",
		"args":{"command":"set_lm","model":"m"},"body_bytes":60,"body_sha256":"bb","outcome":"refused","error":{"error_category":"python","code":"role_required"}}`,
}

// audit answers dspex.rpc.audit.list, a record at a time.
func (f *Fake) audit(r micro.Request) {
	var q struct{ Cursor, Action string }
	if err := json.Unmarshal(r.Data(), &q); err != nil {
		r.Error("400", err.Error(), nil)
		return
	}
	at, _ := strconv.Atoi(q.Cursor)
	var rows []string
	if at < len(fakeRecords) && strings.Contains(fakeRecords[at], `"action":"`+q.Action) {
		rows = fakeRecords[at : at+1]
	}
	at = min(at+1, len(fakeRecords))
	fmt.Fprintf(responder{r}, `{"ok":true,"result":{"records":[%s],"cursor":"%d","more":%t}}`, strings.Join(rows, ","), at, at < len(fakeRecords))
}
