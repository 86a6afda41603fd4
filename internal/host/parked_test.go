package host_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

func TestSessionsBeforeAnOpenBreakerNeedNoGoroutines(t *testing.T) {
	const sessions = 1000
	inFakeTime(t, func(t *testing.T, y *system) {
		o := y.outage(map[string]string{"down": "lm_server_error"})
		for range 5 {
			y.call("dspex.rpc.session.first", "", predict("down", once))
		}
		if b := y.breakers("h1")["lm.test/down"]; b.State != "open" {
			t.Fatalf("%+v", b)
		}
		asked, before := o.calls("down"), runtime.NumGoroutine()
		name := func(n int) string { return fmt.Sprint("s", n) }
		for n := range sessions {
			y.store("dspex.session."+name(n), "j", predict("down", ""))
		}
		y.store("dspex.session."+name(sessions-1), "behind", predict("down", ""))
		y.store("dspex.session.dies", "j", predict("down", `,"deadline":"20s"`))
		y.pass(5 * time.Second)
		if more := runtime.NumGoroutine() - before; more > sessions/2 {
			t.Errorf("%d goroutines for %d sessions", more, sessions)
		}
		began := time.Now()
		if got := y.cancel(name(sessions-1), "behind"); got != "cancelled" {
			t.Errorf("behind a parked job: %s", got)
		}
		if got := y.cancel(name(sessions-2), "j"); got != "cancelled" {
			t.Errorf("a parked job: %s", got)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("the cancellations took %v", took)
		}
		if e := y.end("dies", "j"); e.Outcome != "expired" {
			t.Errorf("%+v", e)
		}
		if o.calls("down") != asked {
			t.Error("the model was called")
		}
		o.mend("down")
		for n := range sessions {
			want := "succeeded"
			if n == sessions-2 {
				want = "cancelled"
			}
			if e := y.end(name(n), "j"); e.Outcome != want || want == "succeeded" && e.Attempts != 1 {
				t.Fatalf("%s: %+v", name(n), e)
			}
		}
		if took := time.Since(began); took > 75*time.Second {
			t.Errorf("all went on after %v", took)
		}
		if n := o.calls("down"); n != asked+sessions-1 {
			t.Errorf("%d attempts", n-asked)
		}
	})
}
