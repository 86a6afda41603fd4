package contract

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex"
)

func TestEachIdRunsOnceAndARepeatGetsTheFirstOutcome(t *testing.T) {
	for _, endpoint := range []string{"dspex.rpc.session.jobs_1", "dspex.rpc.anonymous"} {
		ask := text(body("echo", m{"a": 1, "b": m{"c": 2}}))
		first := stub.request(t, endpoint, ask, "Dspex-Job", "once")
		// The same payload in another spelling is the same payload.
		for _, again := range [][]byte{ask, []byte(`{ "args": {"b": {"c": 2}, "a": 1}, "command": "echo" }`)} {
			r := stub.request(t, endpoint, again, "Dspex-Job", "once")
			r.succeeds(t)
			if !reflect.DeepEqual(r.keys, first.keys) {
				t.Errorf("%s: %v, at first %v", endpoint, r.keys, first.keys)
			}
		}
		r := stub.request(t, endpoint, packed(body("echo", m{"a": 1, "b": m{"c": 2}})), "Dspex-Job", "once", "Content-Type", msgpackType)
		r.succeeds(t)
		if !reflect.DeepEqual(r.Result, first.Result) {
			t.Errorf("%s: in MessagePack %v, at first %v", endpoint, r.Result, first.Result)
		}
		// 1 and 1.0 are two values.
		for _, other := range []string{`{"command": "echo", "args": {"a": 1.0, "b": {"c": 2}}}`, `{"command": "echo"}`, `{"command": "ping", "args": {"a": 1, "b": {"c": 2}}}`} {
			stub.request(t, endpoint, []byte(other), "Dspex-Job", "once").fails(t, "session", "conflict")
		}
		if r := stub.request(t, endpoint, ask, "Dspex-Job", "once"); !reflect.DeepEqual(r.keys, first.keys) {
			t.Errorf("%s: after a conflict %v", endpoint, r.keys)
		}
	}
}

func TestARepeatedIdChangesASessionOnce(t *testing.T) {
	ask := text(body("append", m{"x": "a"}))
	for range 3 {
		stub.request(t, "dspex.rpc.session.jobs_2", ask, "Dspex-Job", "a").succeeds(t)
	}
	// The third kind of repeat: published instead of called.
	stub.publish(t, "dspex.session.jobs_2", ask, "Dspex-Job", "a")
	r := stub.call(t, "jobs_2", "append", m{"x": "b"})
	if list := r.Result.(m)["list"]; !reflect.DeepEqual(list, []any{"a", "b"}) {
		t.Errorf("the list is %v", list)
	}
}

func TestEveryRepeatedCallIsAnsweredAlsoWhileTheFirstRuns(t *testing.T) {
	const callers = 8
	inbox, err := stub.nc.SubscribeSync(nats.NewInbox() + ".*")
	if err != nil {
		t.Fatal(err)
	}
	prefix := inbox.Subject[:len(inbox.Subject)-1]
	for i := range callers {
		msg := message("dspex.rpc.session.jobs_3", text(body("append", m{"x": 1})), "Dspex-Job", "same")
		msg.Reply = prefix + strconv.Itoa(i)
		if err := stub.nc.PublishMsg(msg); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	for range callers {
		answer, err := inbox.NextMsg(patience)
		if err != nil {
			t.Fatalf("%d of %d were answered: %v", len(seen), callers, err)
		}
		r := read(t, answer)
		r.succeeds(t)
		if seen[answer.Subject] || len(r.Result.(m)["list"].([]any)) != 1 {
			t.Errorf("%s: %v", answer.Subject, r.Result)
		}
		seen[answer.Subject] = true
	}
}

func TestIdsBelongToTheirSession(t *testing.T) {
	for _, session := range []string{"jobs_4", "jobs_5", ""} {
		endpoint := "dspex.rpc.anonymous"
		if session != "" {
			endpoint = "dspex.rpc.session." + session
		}
		r := stub.request(t, endpoint, text(body("echo", m{"session": session})), "Dspex-Job", "shared")
		r.succeeds(t)
		if r.Result.(m)["session"] != session {
			t.Errorf("%q got %v", session, r.Result)
		}
	}
}

// acknowledgement is what the broker answers to a durable publish.
type acknowledgement struct {
	Seq       uint64
	Duplicate bool
}

// together publishes messages so that the broker takes them one right after the other.
func (s *service) together(t *testing.T, messages ...*nats.Msg) (acks []acknowledgement) {
	t.Helper()
	inbox, err := s.nc.SubscribeSync(nats.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = inbox.Unsubscribe() }()
	for _, msg := range messages {
		msg.Reply = inbox.Subject
		if err := s.nc.PublishMsg(msg); err != nil {
			t.Fatal(err)
		}
	}
	for range messages {
		answer, err := inbox.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		var ack acknowledgement
		if err := json.Unmarshal(answer.Data, &ack); err != nil || ack.Seq == 0 {
			t.Fatalf("PubAck %s", answer.Data)
		}
		acks = append(acks, ack)
	}
	return acks
}

// TestAJobOfOurClientsIsNeverTheDuplicateOfAnothers has somebody publish the ids that another session's client is about to use, in
// every place where a client may put one.
func TestAJobOfOurClientsIsNeverTheDuplicateOfAnothers(t *testing.T) {
	c := dspex.New(stub.nc)
	for _, lane := range []string{"jobs_12", ""} {
		for i := range 20 {
			id := "order" + strconv.Itoa(i)
			theirs := "dspex.session.mallory"
			if lane == "" {
				theirs = "dspex.anonymous.batch"
			}
			for _, guess := range []string{id, lane + "." + id, "anonymous." + id} {
				msg := message(theirs, text(body("echo", m{"x": "theirs"})), "Dspex-Job", "theirs-"+lane+id+guess[:1], "Nats-Msg-Id", guess)
				if err := stub.nc.PublishMsg(msg); err != nil {
					t.Fatal(err)
				}
			}
			submit := func(x string) (dspex.Receipt, error) {
				if lane == "" {
					return c.SubmitAnonymous(t.Context(), dspex.LaneBatch, "echo", dspex.Args{"x": x}, dspex.WithJobID(id))
				}
				return c.Submit(t.Context(), lane, "echo", dspex.Args{"x": x}, dspex.WithJobID(id))
			}
			receipt, err := submit("ours")
			if err != nil {
				t.Fatal(err)
			}
			again, err := submit("ours")
			if err != nil || again.Sequence == receipt.Sequence {
				t.Fatalf("%+v after %+v: %v", again, receipt, err)
			}
			if r, err := c.Wait(t.Context(), receipt.Job); err != nil || string(r.Result) != `{"x":"ours"}` {
				t.Fatalf("%s: %s %v", receipt.Job, r.Result, err)
			}
		}
	}
}

// TestTwoSessionsUseTheSameIdsAtOnce: all are accepted, and each has the outcome of its own earlier duplicate, or none but a conflict.
func TestTwoSessionsUseTheSameIdsAtOnce(t *testing.T) {
	inbox, err := stub.nc.SubscribeSync("dspex.reply.jobs_13.*")
	if err != nil {
		t.Fatal(err)
	}
	var all []*nats.Msg
	for _, kind := range []string{"first", "duplicate", "other"} {
		for _, session := range []string{"jobs_13", "jobs_14"} {
			x := session
			if kind == "other" {
				x = "another payload"
			}
			all = append(all, message("dspex.session."+session, text(body("append", m{"x": x})), "Dspex-Job", "shared", "Dspex-Reply-To", "dspex.reply.jobs_13."+session+"-"+kind))
		}
	}
	for _, ack := range stub.together(t, all...) {
		if ack.Duplicate {
			t.Fatal("the broker dropped a job that has no id of the broker's")
		}
	}
	for range all {
		answer, err := inbox.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		session, kind, _ := strings.Cut(answer.Subject[len("dspex.reply.jobs_13."):], "-")
		r := read(t, answer)
		if kind == "other" {
			r.fails(t, "session", "conflict")
			continue
		}
		r.succeeds(t)
		if list := r.Result.(m)["list"]; !reflect.DeepEqual(list, []any{session}) {
			t.Errorf("%s: %v", answer.Subject, list)
		}
	}
}

// TestWhatTheBrokersOwnIdDoesToAPublisherThatSetsIt shows what remains of Nats-Msg-Id, which is not part of the contract. The second
// publish within the window is acknowledged as a duplicate and is not there; after the window it is a job like any other.
func TestWhatTheBrokersOwnIdDoesToAPublisherThatSetsIt(t *testing.T) {
	msg := func(id string) *nats.Msg {
		return message("dspex.session.jobs_6", text(body("append", m{"x": id})), "Dspex-Job", id, "Nats-Msg-Id", "the-brokers")
	}
	acks := stub.together(t, msg("a"), msg("b"))
	if acks[0].Duplicate || !acks[1].Duplicate || acks[0].Seq != acks[1].Seq {
		t.Fatalf("%+v", acks)
	}
	if _, r := stub.lookUp(t, m{"session": "jobs_6", "job": "b"}); r.OK {
		t.Error("the duplicate is known")
	}
	for start := time.Now(); stub.together(t, msg("b"))[0].Duplicate; {
		if time.Since(start) > patience {
			t.Fatal("the window does not end")
		}
	}
	for id, want := range map[string][]any{"a": {"a"}, "b": {"a", "b"}} {
		if o, r := stub.wait(t, "jobs_6", id); o.Outcome != "succeeded" || !reflect.DeepEqual(r.Result.(m)["list"], want) {
			t.Errorf("%s: %+v %+v", id, o, r.Result)
		}
	}
}

func TestABadJobIdIsRefused(t *testing.T) {
	long := "a23456789012345678901234567890123456789012345678x"
	for _, id := range []string{"q12", "x-r5", "a.b", "a b", "é", long} {
		stub.request(t, "dspex.rpc.session.jobs_7", text(body("echo", nil)), "Dspex-Job", id).refused(t, "python", "bad_job_id", "Dspex-Job")
		// A publish was accepted before anybody looked: it fails under the id that its PubAck has.
		msg := message("dspex.session.jobs_7", text(body("echo", nil)), "Dspex-Job", id)
		answer, err := stub.nc.RequestMsg(msg, patience)
		if err != nil {
			t.Fatal(err)
		}
		var ack struct{ Seq uint64 }
		if err := json.Unmarshal(answer.Data, &ack); err != nil || ack.Seq == 0 {
			t.Fatalf("PubAck %s", answer.Data)
		}
		o, r := stub.wait(t, "jobs_7", "q"+strconv.FormatUint(ack.Seq, 10))
		r.refused(t, "python", "bad_job_id", "Dspex-Job")
		if o.Outcome != "failed" || o.Attempts != 0 {
			t.Errorf("%+v", o)
		}
	}
	stub.request(t, "dspex.rpc.session.jobs_7", text(body("echo", nil)), "Dspex-Job", long[:48]).succeeds(t)
}

func TestAnUnknownJobIsSaidToBeUnknown(t *testing.T) {
	for _, ask := range []m{{"job": "never"}, {"job": "q999999"}, {"session": "nobody", "job": "never"}, {"session": "nobody", "job": "q1", "wait_ms": 20}} {
		_, r := stub.lookUp(t, ask)
		r.fails(t, "session", "job_unknown")
	}
}

// TestTheStatesOfAJob holds a session up with a job that waits, so that the others can be seen where they are.
func TestTheStatesOfAJob(t *testing.T) {
	const session = "jobs_8"
	stub.publish(t, "dspex.session."+session, text(body("sleep", m{"ms": 3000})), "Dspex-Job", "busy")
	stub.publish(t, "dspex.session."+session, text(body("echo", nil)), "Dspex-Job", "late", "Dspex-Deadline", "1")
	stub.publish(t, "dspex.session."+session, text(body("echo", m{"x": 1})), "Dspex-Job", "next")
	failing := body("boom", m{"retryable": true}, m{"max_retries": 1, "backoff": []int{2000}})
	stub.publish(t, "dspex.session.jobs_9", text(failing), "Dspex-Job", "again")

	expect := func(session, job, state string, attempts int) {
		t.Helper()
		for { // until it is there: it must come by itself
			o, r := stub.lookUp(t, m{"session": session, "job": job})
			r.succeeds(t)
			if o.Outcome == state {
				switch {
				case o.Attempts != attempts:
					t.Errorf("o.Attempts: got %v, want %v; %s: %+v, want %d attempts and no reply yet", o.Attempts, attempts, job, o, attempts)
				case !waits(o, 2000):
					t.Errorf("retry_in_ms must be there if it retries, at most 2000, got %v; %s: %+v", o.RetryIn, job, o)
				case o.Reply != nil:
					t.Errorf("o.Reply must be nil, got %v; %s: %+v, want %d attempts and no reply yet", o.Reply, job, o, attempts)
				case o.Session != session:
					t.Errorf("o.Session: got %v, want %v; %s: %+v, want %d attempts and no reply yet", o.Session, session, job, o, attempts)
				case o.Job != job:
					t.Errorf("o.Job: got %v, want %v; %s: %+v, want %d attempts and no reply yet", o.Job, job, job, o, attempts)
				}
				return
			}
			if o.Reply != nil {
				t.Fatalf("%s: %s, and was never seen %s", job, o.Outcome, state)
			}
		}
	}
	expect(session, "busy", "running", 1)
	expect(session, "next", "queued", 0)
	expect("jobs_9", "again", "retrying", 1)

	ends := map[string]string{"busy": "succeeded", "late": "expired", "next": "succeeded"}
	for job, want := range ends {
		if o, _ := stub.wait(t, session, job); o.Outcome != want {
			t.Errorf("%s: %s, want %s", job, o.Outcome, want)
		}
	}
	_, r := stub.wait(t, session, "late")
	r.fails(t, "timeout", "deadline_exceeded")
	o, r := stub.wait(t, "jobs_9", "again")
	r.fails(t, "python", "boom")
	switch {
	case o.Outcome != "failed":
		t.Errorf(`o.Outcome must be "failed", got %v; %+v %+v`, o.Outcome, o, r)
	case o.Attempts != 2:
		t.Errorf("o.Attempts must be 2, got %v; %+v %+v", o.Attempts, o, r)
	case r.Attempt != 2:
		t.Errorf("r.Attempt must be 2, got %v; %+v %+v", r.Attempt, o, r)
	case r.Error.Attempt != 2:
		t.Errorf("r.Error.Attempt must be 2, got %v; %+v %+v", r.Error.Attempt, o, r)
	}
}

// waits reports whether a job has a time until its next attempt exactly if it waits for one.
func waits(o outcome, most int64) bool {
	if o.Outcome != "retrying" {
		return o.RetryIn == nil
	}
	return o.RetryIn != nil && *o.RetryIn >= 0 && *o.RetryIn <= most
}

func TestJobsOfASessionRunInTheOrderAccepted(t *testing.T) {
	const jobs = 50
	for i := range jobs {
		stub.publish(t, "dspex.session.jobs_10", text(body("append", m{"x": i})), "Dspex-Job", "n"+strconv.Itoa(i))
	}
	_, r := stub.wait(t, "jobs_10", "n"+strconv.Itoa(jobs-1))
	list := r.Result.(m)["list"].([]any)
	for i, x := range list {
		if x.(json.Number).String() != strconv.Itoa(i) {
			t.Fatalf("the order was %v", list)
		}
	}
	if len(list) != jobs {
		t.Errorf("%d jobs ran", len(list))
	}
}

func TestALookUpInMessagePack(t *testing.T) {
	stub.request(t, "dspex.rpc.session.jobs_11", text(body("echo", m{"x": 1})), "Dspex-Job", "a").succeeds(t)
	r := stub.request(t, "dspex.rpc.jobs.get", packed(m{"session": "jobs_11", "job": "a"}), "Content-Type", msgpackType)
	r.succeeds(t)
	if r.header.Get("Content-Type") != msgpackType || r.Result.(m)["outcome"] != "succeeded" {
		t.Errorf("%v %v", r.header, r.Result)
	}
}

func TestTheStatesOfAJobWithoutSession(t *testing.T) {
	stub.publish(t, "dspex.anonymous.batch", text(body("sleep", m{"ms": 60000})), "Dspex-Job", "anonymous_busy")
	failing := body("boom", m{"retryable": true}, m{"max_retries": 1, "backoff": []int{30000}})
	stub.publish(t, "dspex.anonymous.interactive", text(failing), "Dspex-Job", "anonymous_again")
	for job, state := range map[string]string{"anonymous_busy": "running", "anonymous_again": "retrying"} {
		for o, r := stub.lookUp(t, m{"job": job}); ; o, r = stub.lookUp(t, m{"job": job}) {
			r.succeeds(t)
			if o.Reply != nil {
				t.Fatalf("%s: %s, and was never seen %s", job, o.Outcome, state)
			}
			if o.Outcome == state {
				if o.Attempts != 1 || o.Job != job || !waits(o, 30_000) {
					t.Errorf("%+v, want 1 attempt, and retry_in_ms if it retries", o)
				}
				break
			}
		}
		stub.request(t, "dspex.rpc.jobs.cancel", text(m{"job": job})).succeeds(t)
		o, r := stub.wait(t, "", job)
		if o.Outcome != "cancelled" || o.Attempts > 1 || r.Attempt != o.Attempts {
			t.Errorf("%s: %+v %+v, want it cancelled after 1 attempt at most", job, o, r)
		}
		if state == "retrying" && o.Attempts != 1 { // one that runs has come to its host, and may have begun or not
			t.Errorf("%s: %+v, want 1 attempt", job, o)
		}
	}
}
