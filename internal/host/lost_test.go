package host_test

import (
	"bytes"
	"sync/atomic"
	"testing"
	"time"
)

// loseDelivery has the next delivery of a session job lost on its way to the host.
func (y *system) loseDelivery() (lost *atomic.Bool) {
	lost = new(atomic.Bool)
	loses := func(b []byte) {
		reply := bytes.Index(b, []byte(" $JS.ACK.DSPEX_JOBS."))
		if reply < 0 || !lost.CompareAndSwap(false, true) {
			return
		}
		for i := reply - 1; b[i] != ' '; i-- { // the number of a subscription that nobody has
			b[i] = '0'
		}
	}
	y.line.spoil.Store(&loses)
	return lost
}

// endsWithin checks how long a job takes whose first delivery was lost.
func (y *system) endsWithin(limit time.Duration, lost *atomic.Bool) {
	y.t.Helper()
	began := time.Now()
	if o := y.end("s", "job"); o.Outcome != "succeeded" {
		y.t.Errorf("%+v", o)
	}
	if !lost.Load() {
		y.t.Error("no delivery was lost")
	}
	if took := time.Since(began); took > limit {
		y.t.Errorf("the job ended after %v, want %v at most", took, limit)
	}
}

// A server of a cluster may send what never arrives. Without another delivery behind it there is no gap to see.
func TestALostDeliveryThatNothingFollowsComesAgain(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		lost := y.loseDelivery()
		y.store("dspex.session.s", "job", echo)
		y.endsWithin(time.Minute, lost)
	})
}

func TestAfterAReconnectWhatWasUnderWayComesAtOnce(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		lost := y.loseDelivery()
		y.store("dspex.session.s", "job", echo)
		y.pass(time.Second)
		if err := y.conns[2].ForceReconnect(); err != nil { // the host's
			t.Fatal(err)
		}
		y.endsWithin(10*time.Second, lost)
	})
}
