package host

import (
	"testing"
	"time"
)

func TestWhatWasConfirmedALeaseAgoIsNotStarted(t *testing.T) {
	at := time.Minute
	for _, c := range []struct {
		later time.Duration
		holds bool
	}{{0, true}, {lease - 1, true}, {lease, false}, {time.Hour, false}} {
		if got := leaseHolds(at, at+c.later); got != c.holds {
			t.Errorf("after %v: %t", c.later, got)
		}
	}
	if leaseHolds(-lease, 0) {
		t.Error("what was never confirmed may start")
	}
}

func TestAnAnonymousJobThatWasOnceLetGoStaysSo(t *testing.T) {
	at := time.Minute
	g := grip{at: at}
	g.renew(at + gripHolds - 1)
	if !g.holds(at + gripHolds + 1) {
		t.Error("a sign of life counts")
	}
	g.renew(at + 3*gripHolds) // a frozen process says that it lives as soon as it thaws
	if g.holds(at + 3*gripHolds + 1) {
		t.Error("a sign of life that came too late counts")
	}
}
