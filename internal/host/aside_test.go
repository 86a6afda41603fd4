package host_test

import (
	"context"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/stream"
)

// While results cannot be stored, an early end that waits for room hides nothing of the attempt beside it.
func TestAnEarlyEndThatCannotBeStoredHidesNeitherTheTimeoutNorTheCancellationOfWhatRuns(t *testing.T) {
	for name, cancelled := range map[string]bool{"timeout": false, "cancellation": true} {
		t.Run(name, func(t *testing.T) {
			inFakeTime(t, func(t *testing.T, y *system) {
				entered, ended := make(chan struct{}, 1), make(chan time.Time, 1)
				y.script(func(ctx context.Context, c frame.CallBody) (frame.Frame, error, bool) {
					if c.Job != "runs" {
						return frame.Frame{}, nil, false
					}
					entered <- struct{}{}
					<-ctx.Done()
					ended <- time.Now()
					return frame.Frame{}, ctx.Err(), true
				})
				began := time.Now()
				y.publish("s", "runs", `{"timeout":"30s","max_retries":0}`)
				<-entered
				y.publish("s", "late", `{"deadline":"5s"}`)
				y.publish("s", "behind", `{}`)
				y.limit(stream.Results, 1)
				y.pass(15 * time.Second) // the result of the early end is refused
				due := began.Add(30 * time.Second)
				if cancelled {
					due = time.Now()
					y.ask("dspex.rpc.jobs.cancel", "", `{"session":"s","job":"runs"}`)
				}
				y.pass(time.Minute)
				select {
				case at := <-ended:
					if over := at.Sub(due); over < 0 || over > time.Second {
						t.Errorf("the attempt ended %v after it had to", over)
					}
				default:
					t.Error("the attempt goes on")
				}
				y.limit(stream.Results, -1)
				for job, want := range map[string]string{"runs": map[bool]string{false: "failed", true: "cancelled"}[cancelled], "late": "expired", "behind": "succeeded"} {
					if e := y.end("s", job); e.Outcome != want {
						t.Errorf("%s: %+v, want %s", job, e, want)
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
