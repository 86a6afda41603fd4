package host_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/stream"
)

// room bounds the bytes of a bucket; -1 bounds nothing.
func (y *system) room(bucket string, bytes int64) {
	y.t.Helper()
	y.reshape(bucket, func(cfg *jetstream.StreamConfig) { cfg.MaxBytes = bytes })
}

// reshape changes the configuration of a bucket's stream.
func (y *system) reshape(bucket string, change func(*jetstream.StreamConfig)) {
	y.t.Helper()
	js, err := jetstream.New(y.nc)
	if err != nil {
		y.t.Fatal(err)
	}
	s, err := js.Stream(context.Background(), "KV_"+bucket)
	if err != nil {
		y.t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	change(&cfg)
	if _, err := js.UpdateStream(context.Background(), cfg); err != nil {
		y.t.Fatal(err)
	}
}

func TestWithoutRoomForOutcomesNothingIsRunAndTheEndpointsSayWhy(t *testing.T) {
	for _, bucket := range []string{stream.Sessions, stream.Results} {
		t.Run(bucket, func(t *testing.T) {
			inFakeTime(t, func(t *testing.T, y *system) {
				y.room(bucket, 1)
				y.publish("first", "a", "{}")
				y.pass(5 * time.Second) // the host has met it and reported it
				ran := y.pool.runs.Load()
				for _, endpoint := range []string{"dspex.rpc.session.s", "dspex.rpc.anonymous", "dspex.rpc.health.check"} {
					body := echo
					if endpoint == "dspex.rpc.health.check" {
						body = ""
					}
					if r := y.call(endpoint, "", body); r.Error.Code != "store_full" || r.Error.Category != "resource_error" || !r.Error.Retryable {
						t.Errorf("%s: %+v", endpoint, r)
					}
				}
				y.publish("second", "b", "{}")
				y.store("dspex.anonymous.interactive", "c", echo)
				waits := y.replyTo("dspex.session.third", "d", `{"command":"append","options":{"deadline":"20s"}}`)
				if r := y.answer(waits, 21*time.Second); r.Error.Code != "outcome_pending" {
					t.Errorf("a deadline without room: %+v", r)
				}
				waits = y.replyTo("dspex.anonymous.batch", "", `{"command":"append","options":{"deadline":"20s"}}`)
				r := y.answer(waits, 22*time.Second)
				if want := map[string]string{stream.Sessions: "deadline_exceeded", stream.Results: "outcome_pending"}[bucket]; r.Error.Code != want {
					t.Errorf("without session: %+v", r)
				}
				y.pass(time.Minute)
				if n := y.pool.runs.Load(); n != ran {
					t.Errorf("%d jobs ran whose outcome could not be stored", n-ran)
				}
				y.room(bucket, -1)
				if e := y.end("third", "d"); e.Outcome != "expired" {
					t.Errorf("%+v", e)
				}
				for session, job := range map[string]string{"first": "a", "second": "b", "": "c"} {
					if e := y.end(session, job); e.Outcome != "succeeded" {
						t.Errorf("%s: %+v", job, e)
					}
				}
				y.pass(2 * time.Second)
				if status, reasons := y.health(); status != "healthy" {
					t.Errorf("afterwards: %s %v", status, reasons)
				}
			})
		})
	}
}

// A host that turned round and round here would stop fake time.
func TestAJobThatIsCancelledWhileTheStoreIsFullEndsWhenThereIsRoom(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		y.room("dspex_results", 1)
		y.store("dspex.session.a", "one", echo)
		y.pass(2 * time.Second)
		y.store("dspex.session.b", "two", echo)
		y.pass(2 * time.Second)
		if n := y.pool.runs.Load(); n != 1 {
			t.Errorf("%d runs, want that of the job that found the store full", n)
		}
		if err := y.nc.PublishRequest("dspex.rpc.jobs.cancel", y.nc.NewInbox(), []byte(`{"session":"b","job":"two"}`)); err != nil {
			t.Fatal(err)
		}
		y.pass(10 * time.Second)
		y.room("dspex_results", -1)
		if one, two := y.end("a", "one"), y.end("b", "two"); one.Outcome != "succeeded" || two.Outcome != "cancelled" {
			t.Errorf("outcomes %s and %s", one.Outcome, two.Outcome)
		}
	})
}
