package fleet

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspex/dspex/internal/control"
)

// pool is a host that reports how many of its jobs have ended.
type pool struct {
	r *errorRate
	b control.Heartbeat
}

func newPool(threshold float64) *pool {
	p := &pool{r: &errorRate{alarm: alarm{threshold: NewThreshold(threshold)}}, b: control.Heartbeat{Host: "h1", Incarnation: "a", Requests: 1000, Errors: 900}}
	p.r.observe(p.b)
	return p
}

func (p *pool) end(total, failed int64) {
	p.b.Requests += total
	p.b.Errors += failed
	p.r.observe(p.b)
}

func (p *pool) expect(t *testing.T, want Verdict, over bool) {
	t.Helper()
	now, v := p.r.judge()
	if v != want || now.Over() != over || p.r.now() != now {
		t.Errorf("%+v: verdict %d, over %t; expected %d, %t", now, v, now.Over(), want, over)
	}
}

func TestRequestsThatCannotSucceedAreNoAlert(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(0.05)
		p.b.Requested += 50
		p.end(100, 50)
		p.expect(t, Quiet, false)
		if now := p.r.now(); now.Total != 50 || now.Failed != 0 {
			t.Errorf("%+v", now)
		}
		p.end(10, 10)
		p.expect(t, raised, true)
	})
}

func TestSixPercentOfFailuresAreOneAlertFourPercentAreNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(0.05)
		p.end(94, 0)
		p.end(6, 4)
		p.expect(t, Quiet, false)
		p.end(0, 2)
		p.expect(t, raised, true)
		p.expect(t, Quiet, true)
		time.Sleep(59 * time.Second)
		p.expect(t, Quiet, true)
		time.Sleep(time.Second)
		p.expect(t, Recovered, false)
		p.expect(t, Quiet, false)
	})
}

func TestFewJobsSayNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(0.05)
		p.end(9, 9)
		p.expect(t, Quiet, false)
		time.Sleep(time.Minute)
		p.end(9, 9)
		p.expect(t, Quiet, false)
		p.end(1, 0)
		p.expect(t, raised, true)
	})
}

func TestAnAlertIsNotRepeatedWithin300sAndIsWhileItGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(0.5)
		began, alerts, recoveries := time.Now(), 0, 0
		for time.Since(began) < 10*time.Minute { // an outage of ten minutes, with a minute of peace after the third
			if minute := time.Since(began) / time.Minute; minute != 3 {
				p.end(10, 9)
			}
			switch _, v := p.r.judge(); v {
			case raised:
				alerts++
			case Recovered:
				recoveries++
			}
			time.Sleep(time.Second)
		}
		if alerts != 2 || recoveries != 1 {
			t.Errorf("%d alerts and %d recoveries", alerts, recoveries)
		}
	})
}

func TestRestartsOfHostsAreNoOutcomes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(0.05)
		p.b.Incarnation, p.b.Requests, p.b.Errors = "b", 100, 100
		p.r.observe(p.b)
		p.expect(t, Quiet, false)
		p.end(20, 2)
		p.expect(t, raised, true)
		other := control.Heartbeat{Host: "h2", Incarnation: "c", Requests: 100}
		p.r.observe(other)
		other.Requests += 980
		p.r.observe(other)
		p.expect(t, Recovered, false) // all hosts together
	})
}
