package host_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/stream"
)

// putRecord stores bytes as a session's record.
func (y *system) putRecord(session string, b []byte) uint64 {
	y.t.Helper()
	return y.put(stream.Sessions, "s."+session, b)
}

func (y *system) put(bucket, key string, b []byte) uint64 {
	y.t.Helper()
	js, err := jetstream.New(y.nc)
	if err != nil {
		y.t.Fatal(err)
	}
	kv, err := js.KeyValue(context.Background(), bucket)
	if err != nil {
		y.t.Fatal(err)
	}
	rev, err := kv.Put(context.Background(), key, b)
	if err != nil {
		y.t.Fatal(err)
	}
	return rev
}

var torn = []byte("\xc1 no record")

func TestAnUnreadableRecordIsAResetThatTheReplySays(t *testing.T) {
	y := start(t, t.TempDir())
	y.putRecord("torn", torn)
	if r := y.call("dspex.rpc.session.torn", "a", echo); !r.OK || r.Session.State != "reset" || string(r.Result) != `["a"]` {
		t.Errorf("%+v %s", r, r.Result)
	}
	if r := y.call("dspex.rpc.session.torn", "b", echo); !r.OK || r.Session.State != "warm" || string(r.Result) != `["a","b"]` {
		t.Errorf("afterwards: %+v %s", r, r.Result)
	}
}

// An attempt less is better than one too many, and none is no reason to wait for ever.
func TestAnUnreadableAttemptRecordCountsAsOneAttemptOfAJobThatWasThere(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		y.put(stream.Sessions, "h.later", torn)
		y.pass(time.Millisecond)
		if r := y.call("dspex.rpc.session.later", "a", `{"command":"append","options":{"max_retries":0}}`); !r.OK || r.Attempt != 1 {
			t.Errorf("of a job that came after it: %+v", r)
		}
		y.halt()
		y.store("dspex.session.once", "a", `{"command":"append","options":{"max_retries":0}}`)
		y.store("dspex.session.again", "a", echo)
		y.pass(time.Millisecond)
		y.put(stream.Sessions, "h.once", torn)
		y.put(stream.Sessions, "h.again", torn)
		y.run("h1")
		if e := y.end("once", "a"); e.Outcome != "failed" || e.Reply.Error.Code != "attempt_crashed" {
			t.Errorf("of a job that may start once: %+v", e)
		}
		if e := y.end("again", "a"); e.Outcome != "succeeded" || e.Attempts != 2 {
			t.Errorf("of a job that may start again: %+v", e)
		}
		if n := y.pool.runs.Load(); n != 2 {
			t.Errorf("%d runs", n)
		}
	})
}

func TestAJobWhoseOutcomeIsUnreadableIsNotRunAgainAndHoldsNobodyUp(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		y.put(stream.Results, "r.s.s.a", torn)
		y.put(stream.Results, "r.a.a", torn)
		for _, subject := range []string{"dspex.rpc.session.s", "dspex.rpc.anonymous"} {
			if r := y.call(subject, "a", echo); r.Error.Code != "record_unreadable" || r.Error.Category != "session" || r.Error.Retryable {
				t.Errorf("%s: %+v", subject, r)
			}
			if r := y.call(subject, "b", echo); !r.OK {
				t.Errorf("%s, the next one: %+v", subject, r)
			}
		}
		if n := y.pool.runs.Load(); n != 2 {
			t.Errorf("%d runs", n)
		}
	})
}

func TestUnreadableAttemptsOfAnAnonymousJobHoldItUpNoLongerThanItsDelays(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		y.failEach()
		y.put(stream.Results, "t.a", torn)
		if r := y.call("dspex.rpc.anonymous", "a", doomed); r.Error.Code != "lost_3" || r.Attempt != 3 {
			t.Errorf("%+v", r)
		}
	})
}
