package host_test

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server/ats"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/host"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// inBubble runs a test in fake time, broker included.
func inBubble(t *testing.T, test func(t *testing.T)) {
	ats.Register() // outside, or a goroutine of the server stops fake time
	defer ats.Unregister()
	today := time.Now()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(today)) // a bubble starts in the year 2000; the file store reads the real clock
		test(t)
	})
	runtime.GC() // twice: nats.go pools timers, and the next bubble must not find these
	runtime.GC()
}

func TestASessionKeepsItsStateForTheIdleTimeAfterItsLastJob(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		y := startAdjusted(t, func(c *host.Config) { c.SessionIdle = time.Minute }, "h1")
		call := func(pause time.Duration, job, result, state string) {
			t.Helper()
			time.Sleep(pause)
			if r := y.call("dspex.rpc.session.s", job, echo); string(r.Result) != result || r.Session.State != state {
				t.Errorf("%s after %v: %s, state %s; want %s, %s", job, pause, r.Result, r.Session.State, result, state)
			}
		}
		call(0, "one", `["one"]`, "none")
		call(50*time.Second, "two", `["one","two"]`, "warm")
		call(50*time.Second, "three", `["one","two","three"]`, "warm") // sliding
		call(61*time.Second, "four", `["four"]`, "reset")
		call(time.Second, "five", `["four","five"]`, "warm")
		if m, err := stream.GetLast(t.Context(), y.nc, "KV_"+stream.Sessions, "$KV.dspex_sessions.s.s"); err != nil || m.Header.Get("Nats-TTL") != "3660s" {
			t.Errorf("the record lives for %s (%v), want the idle time and an hour", m.Header.Get("Nats-TTL"), err)
		}
	})
}

func TestALossIsNotForgottenBeforeAReplyTellsIt(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		y := startAdjusted(t, func(c *host.Config) { c.SessionIdle = time.Minute }, "h1")
		y.pool = y.hosts["h1"].pool
		y.call("dspex.rpc.session.s", "one", echo)
		g := y.gate("long")
		time.Sleep(2 * time.Minute)
		y.publish("s", "long", `{}`)
		<-g.entered
		y.publish("s", "late", `{"deadline":50}`) // its end is written to the record beside the job
		if got, _ := y.outcome("s", "late"); got != "expired" {
			t.Errorf("late: %s", got)
		}
		m, err := stream.GetLast(t.Context(), y.nc, "KV_"+stream.Sessions, "$KV.dspex_sessions.s.s")
		if err != nil {
			t.Fatal(err)
		}
		y.putRecord("other", m.Data)                                                           // as another host would find it
		y.putRecord("short", (&jobs.Record{StateVersion: 1, Updated: time.Now()}).Append(nil)) // to one that keeps sessions for longer
		close(g.open)
		for session, job := range map[string]string{"s": "long", "other": "first", "short": "first"} {
			if job == "first" {
				y.publish(session, job, `{}`)
			}
			if _, r := y.outcome(session, job); r.Session.State != "reset" {
				t.Errorf("%s: %+v", session, r)
			}
		}
	})
}

func TestTheAttemptRecordOfAJobWithoutDeadlineOutlivesADay(t *testing.T) {
	y := start(t, t.TempDir())
	started, release := y.pool.hold()
	defer release()
	js, err := jetstream.New(y.nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "dspex.session.s", []byte(`{"command":"hold"}`)); err != nil {
		t.Fatal(err)
	}
	await(t, started, "the job did not start")
	m, err := stream.GetLast(t.Context(), y.nc, "KV_"+stream.Sessions, "$KV.dspex_sessions.h.s")
	if err != nil {
		t.Fatal(err)
	}
	if ttl, err := time.ParseDuration(m.Header.Get("Nats-TTL")); err != nil || ttl < 24*time.Hour {
		t.Errorf("the attempt record lives for %v (%v)", ttl, err)
	}
}
