package natstest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/dspex/dspex/internal/contract"
)

// Fake answers the endpoints of contract/job.md without dispatcher, host or Python. Its commands:
//
//	predict  {"answer": <the argument question or text>}; with the option stream, word by word
//	echo     its arguments
//	set_lm   chooses: model, provider and temperature as requested
//	create_program, execute_program, cleanup_session  as if every program answered with its inputs
//	request  the request body as it arrived, with the headers under "headers"
//	boom     fails: category python, code user_error
//	busy     fails: category resource_error, code checkout_timeout, to be retried after 250 ms
//	hold     is answered when Release is called
//
// It runs batches, too (fake_batches.go).
type Fake struct {
	nc *nats.Conn

	mu       sync.Mutex
	outcomes map[string][]byte        // session + "/" + job -> reply
	ended    map[string]chan struct{} // closed when the outcome is there
	seen     map[string]bool          // jobs that arrived
	released chan struct{}
	sequence uint64
	known    map[string]bool // sessions
	drained  bool            // h1

	breakerReset bool // that of the language model
	removed      bool // the foreign consumer
	number       int  // of partitions

	handlers map[string]FakeCommand
	jobs     []FakeJob

	batchList []*fakeBatch // the oldest first
}

// FakeJob is a job that a Fake received.
type FakeJob struct {
	Session, Job, Command string
	Args, Options         map[string]any
}

// FakeCommand answers a job with its result, or with the error of its reply.
type FakeCommand func(FakeJob) (result any, failure *FakeError)

// FakeError is the error of a reply.
type FakeError struct {
	Body any // what encoding/json writes in the form of contract/job.md, "Reply"
}

// Handle makes command answer the jobs of its name, instead of what the Fake itself has under it.
func (f *Fake) Handle(name string, command FakeCommand) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.handlers == nil {
		f.handlers = map[string]FakeCommand{}
	}
	f.handlers[name] = command
}

// Jobs are the jobs that came so far.
func (f *Fake) Jobs() []FakeJob {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.jobs)
}

// family matches all subjects that differ from this one in the last token only.
func family(subject string) string { return subject[:strings.LastIndexByte(subject, '.')+1] + "*" }

// queueLength of a subject is small, so that a test can fill it.
const queueLength = 2

func (f *Fake) consume(ctx context.Context, stream, subject string) error {
	js, err := jetstream.New(f.nc)
	if err != nil {
		return err
	}
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{
		Name: stream, Subjects: []string{subject}, Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew,
		MaxMsgsPerSubject: queueLength, DiscardNewPerSubject: true,
	}); err != nil {
		return err
	}
	consumer, err := js.CreateConsumer(ctx, stream, jetstream.ConsumerConfig{Durable: "fake", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 1000})
	if err != nil {
		return err
	}
	_, err = consumer.Consume(f.stored) // ends with the connection
	return err
}

// Release answers what the command hold keeps back, from then on at once.
func (f *Fake) Release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.released:
	default:
		close(f.released)
	}
}

const fakeStats = `{"pool_size":4,"active_workers":4,"available_workers":2,"active_sessions":3,"total_requests":1542,"total_errors":12,"average_response_time":245,"uptime_seconds":3600,"extra":{"overflow_workers":1,"affinity_hits":990,"affinity_misses":6,"affinity_moves":4}}`

func (f *Fake) health(r micro.Request) {
	r.Respond([]byte(`{"ok":true,"engine":"fake 0","result":{"status":"healthy","stats":` + fakeStats + `}}`))
}

func (f *Fake) stats(r micro.Request) {
	r.Respond([]byte(`{"ok":true,"engine":"fake 0","result":` + fakeStats + `}`))
}

type fakeRequest struct {
	Command string         `json:"command"`
	Args    map[string]any `json:"args"`
	Options map[string]any `json:"options"`
}

func (f *Fake) call(r micro.Request) {
	session := ""
	for _, prefix := range []string{contract.RPCSession, contract.RPCAdminSession} {
		if rest, ok := strings.CutPrefix(r.Subject(), prefix); ok {
			session = rest
		}
	}
	f.mu.Lock()
	f.sequence++
	job := contract.SequenceJob(f.sequence)
	f.mu.Unlock()
	if id := r.Headers().Get(contract.HeaderJob); id != "" {
		job = id
	}
	body := f.run(session, job, r.Data(), nats.Header(r.Headers()), r.Reply())
	f.keep(session, job, body)
	f.answer(r.Reply(), job, body)
}

// submitJobs publishes jobs that are wanted all or none. They are not checked before.
func (f *Fake) submitJobs(r micro.Request) {
	var ask struct{ Jobs []map[string]json.RawMessage }
	var ids []string
	err := json.Unmarshal(r.Data(), &ask)
	for _, job := range ask.Jobs {
		m := nats.NewMsg(contract.SubjectAnonymous + contract.LaneBatch)
		for key, use := range map[string]func(string){
			"job":      func(id string) { m.Header.Set(contract.HeaderJob, id); ids = append(ids, id) },
			"session":  func(id string) { m.Subject = contract.SubjectSession + id },
			"lane":     func(lane string) { m.Subject = contract.SubjectAnonymous + lane },
			"reply_to": func(to string) { m.Header.Set(contract.HeaderReplyTo, to) },
		} {
			var text string
			if json.Unmarshal(job[key], &text) == nil {
				use(text)
			}
			delete(job, key)
		}
		m.Data, _ = json.Marshal(job)
		if _, bad := f.nc.RequestMsg(m, 5*time.Second); err == nil {
			err = bad
		}
	}
	if err != nil {
		r.Respond(failed("", "", contract.Python, contract.CodeBadRequest, err.Error(), 0))
		return
	}
	body, _ := json.Marshal(map[string]any{"ok": true, "result": map[string]any{"jobs": ids}})
	r.Respond(body)
}

// stored runs a job of the stream.
func (f *Fake) stored(m jetstream.Msg) {
	meta, err := m.Metadata()
	if err != nil {
		return
	}
	session, _ := strings.CutPrefix(m.Subject(), contract.SubjectSession)
	if strings.HasPrefix(m.Subject(), contract.SubjectAnonymous) {
		session = ""
	}
	job := contract.SequenceJob(meta.Sequence.Stream)
	if id := m.Headers().Get(contract.HeaderJob); id != "" {
		job = id
	}
	f.mu.Lock()
	f.seen[session+"/"+job] = true
	f.mu.Unlock()
	go func() {
		body := f.run(session, job, m.Data(), m.Headers(), "")
		m.DoubleAck(context.Background()) // who knows of the end finds room for another job; ends with the connection
		f.keep(session, job, body)
		if to := m.Headers().Get(contract.HeaderReplyTo); to != "" {
			f.answer(to, job, body)
		}
	}()
}

func (f *Fake) answer(to, job string, body []byte) {
	m := nats.NewMsg(to)
	m.Data = body
	m.Header.Set(contract.HeaderJob, job)
	m.Header.Set(contract.HeaderAttempt, "1")
	f.nc.PublishMsg(m)
}

func (f *Fake) run(session, job string, data []byte, header nats.Header, reply string) []byte {
	var q fakeRequest
	if err := json.Unmarshal(data, &q); err != nil {
		return failed(session, job, contract.Python, contract.CodeBadRequest, err.Error(), 0)
	}
	asked := FakeJob{Session: session, Job: job, Command: q.Command, Args: q.Args, Options: q.Options}
	f.mu.Lock()
	f.jobs = append(f.jobs, asked)
	command := f.handlers[q.Command]
	f.mu.Unlock()
	if command != nil {
		result, failure := command(asked)
		if failure != nil {
			return envelope(session, job, map[string]any{"ok": false, "error": failure.Body})
		}
		return succeeded(session, job, result)
	}
	switch q.Command {
	case "predict":
		answer := q.Args["question"]
		if answer == nil {
			answer = q.Args["text"]
		}
		if q.Options["stream"] == true {
			f.partials(reply, job, fmt.Sprint(answer))
		}
		return succeeded(session, job, map[string]any{"answer": answer})
	case "echo":
		return succeeded(session, job, q.Args)
	case "set_lm", "create_program", "execute_program", "cleanup_session":
		return succeeded(session, job, built(q, session))
	case "request":
		return succeeded(session, job, map[string]any{"body": json.RawMessage(data), "headers": header})
	case "boom":
		return failed(session, job, contract.Python, contract.CodeUserError, "ValueError: no \x1b[31mred", 0)
	case "busy":
		return failed(session, job, contract.Resource, contract.CodeCheckoutTimeout, "no slot became free", 250)
	case "hold":
		<-f.released
		return succeeded(session, job, "released")
	}
	return failed(session, job, contract.Python, contract.CodeUnknownCommand, "unknown command "+q.Command, 0)
}

// built is the result of a command of dspex.
func built(q fakeRequest, session string) any {
	switch q.Command {
	case "set_lm":
		temperature, given := q.Args["temperature"]
		if !given {
			temperature = 0.7
		}
		return map[string]any{"status": "configured", "model": q.Args["model"], "provider": q.Args["provider"], "temperature": temperature}
	case "create_program":
		return q.Args["id"]
	case "execute_program":
		return map[string]any{"program_id": q.Args["program_id"], "outputs": q.Args["inputs"], "execution_time": 0.001}
	}
	return map[string]any{"status": "cleaned", "session_id": session, "programs_removed": 0}
}

func (f *Fake) partials(reply, job, text string) {
	for n, word := range strings.SplitAfter(text, " ") {
		m := nats.NewMsg(reply)
		m.Header.Set(contract.HeaderPartial, strconv.Itoa(n))
		m.Header.Set(contract.HeaderJob, job)
		m.Header.Set(contract.HeaderAttempt, "1")
		m.Data, _ = json.Marshal(map[string]string{"field": "answer", "chunk": word})
		f.nc.PublishMsg(m)
	}
}

func succeeded(session, job string, result any) []byte {
	return envelope(session, job, map[string]any{"ok": true, "result": result})
}

func failed(session, job, category, code, message string, again int) []byte {
	e := map[string]any{"error_category": category, "code": code, "message": message, "hint": "read the documentation", "retryable": again > 0, "severity": "major", "attempt": 1}
	if again > 0 {
		e["retry_after_ms"] = again
	}
	return envelope(session, job, map[string]any{"ok": false, "error": e})
}

func envelope(session, job string, body map[string]any) []byte {
	body["job"], body["attempt"], body["engine"] = job, 1, "fake 0"
	body["timing"] = map[string]any{"queued_ms": 1, "run_ms": 2}
	if session != "" {
		body["session"] = map[string]any{"id": session, "host": "h1", "worker": "h1/0", "state": "warm"}
	} else {
		body["ran_on"] = map[string]any{"host": "h1", "worker": "h1/0"}
	}
	b, _ := json.Marshal(body)
	return b
}

// end returns the channel that is closed when the job's outcome is there.
func (f *Fake) end(session, job string) chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := session + "/" + job
	if f.ended[key] == nil {
		f.ended[key] = make(chan struct{})
	}
	return f.ended[key]
}

func (f *Fake) keep(session, job string, body []byte) {
	ended := f.end(session, job)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.outcomes[session+"/"+job] == nil {
		f.outcomes[session+"/"+job] = body
		close(ended)
	}
}

func (f *Fake) getJob(r micro.Request) {
	var q struct {
		Session string `json:"session"`
		Job     string `json:"job"`
		WaitMS  int64  `json:"wait_ms"`
	}
	if err := json.Unmarshal(r.Data(), &q); err != nil {
		r.Error("400", err.Error(), nil)
		return
	}
	key := q.Session + "/" + q.Job
	select { // a job that was just published may not have arrived yet: who waits for it gets its outcome
	case <-f.end(q.Session, q.Job):
	case <-time.After(time.Duration(q.WaitMS) * time.Millisecond):
	}
	f.mu.Lock()
	body, seen := f.outcomes[key], f.seen[key]
	f.mu.Unlock()
	if body == nil && !seen {
		r.Respond([]byte(`{"ok":false,"error":{"error_category":"session","code":"job_unknown","message":"no such job","retryable":false}}`))
		return
	}
	result := map[string]any{"job": q.Job, "session": q.Session, "attempts": 1, "outcome": "running"}
	if body != nil {
		result["outcome"], result["reply"] = "succeeded", json.RawMessage(body)
		if strings.Contains(string(body), `"ok":false`) {
			result["outcome"] = "failed"
		}
	}
	b, _ := json.Marshal(map[string]any{"ok": true, "result": result})
	r.Respond(b)
}
