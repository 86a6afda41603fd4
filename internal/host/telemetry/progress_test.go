package telemetry

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestAHostIsStalledWhenItHasWorkAndFinishesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p Progress
		check := func(name string, waiting int64, stalled time.Duration) {
			t.Helper()
			if d, _ := p.Look(waiting); d != stalled {
				t.Errorf("%s: %v, want %v", name, d, stalled)
			}
		}
		check("new", 0, 0)
		time.Sleep(time.Hour)
		check("idle", 0, 0)
		time.Sleep(21 * time.Second)
		check("jobs wait and none begins", 1, 21*time.Second)
		p.Began(0)
		time.Sleep(30 * time.Second)
		p.Partial()
		check("partial output", 0, 0)
		time.Sleep(30 * time.Second)
		p.Ended(false, 0, 30*time.Second)
		check("given up", 1, 30*time.Second)
		p.Began(0)
		p.Ended(true, 0, 30*time.Second)
		check("answered", 1, 0)
		time.Sleep(59 * time.Second)
		check("calls are slow here", 1, 0)
		time.Sleep(2 * time.Second)
		check("slower than usual", 1, 61*time.Second)
		check("no work", 0, 0)
		p.Began(0)
		time.Sleep(61 * time.Second)
		p.Ended(false, 0, 61*time.Second)
		check("between two attempts", 0, 61*time.Second)
		time.Sleep(3 * time.Second)
		check("no next one", 0, 0)
		time.Sleep(90 * time.Minute)
		check("an hour later", 0, 0)
		time.Sleep(40 * time.Second)
		check("what was usual an hour ago still is", 1, 0)
		check("no work", 0, 0)
		time.Sleep(2 * time.Hour)
		check("hours later", 0, 0)
		time.Sleep(40 * time.Second)
		check("nobody remembers", 1, 40*time.Second)
		p.Began(time.Hour)
		time.Sleep(time.Minute)
		check("all that runs may take an hour", 1, 0)
		p.Began(0)
		time.Sleep(21 * time.Second)
		check("a call beside it may not", 1, 21*time.Second)
	})
}
