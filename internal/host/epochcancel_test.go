package host_test

import (
	"context"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/frame"
)

// A job that runs outlives the epoch in which it began (ADR 17), and whoever waits behind it waits for its end.
func TestWhatAnEarlierEpochRunsCanBeCancelled(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		g := y.gate("long")
		y.publish("e", "long", `{"timeout":"1h","max_retries":0}`)
		<-g.entered
		y.publish("e", "behind", `{}`)
		y.restartBroker() // consumers are in memory
		y.pass(10 * time.Second)
		began := time.Now()
		if got := y.cancel("e", "long"); got != "cancelled" {
			t.Errorf("what runs: %s", got)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("cancelled after %v", took)
		}
		if e := y.end("e", "behind"); e.Outcome != "succeeded" || string(e.Reply.Result) != `["behind"]` {
			t.Errorf("what waited: %+v", e)
		}
		if n := y.pool.runs.Load(); n != 2 {
			t.Errorf("%d runs", n)
		}
	})
}

func TestACancellationIsAnsweredWithTheOutcomeHoweverLongItsWorkerTakes(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		entered := make(chan bool, 1)
		y.script(func(ctx context.Context, c frame.CallBody) (frame.Frame, error, bool) {
			entered <- true
			<-ctx.Done()
			time.Sleep(8 * time.Second)
			return frame.Frame{}, ctx.Err(), true
		})
		y.publish("e", "slow", `{}`)
		<-entered
		if got := y.cancel("e", "slow"); got != "cancelled" {
			t.Errorf("it is %s", got)
		}
	})
}
