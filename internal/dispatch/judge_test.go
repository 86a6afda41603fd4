package dispatch

import (
	"encoding/json"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/jobs"
)

// judging is where hosts are judged: every tick, as the leader's loop does.
type judging struct {
	hosts
	connected bool
	probe     error // what a probe ends with
	probes    int
}

func (b *judging) beat(t *testing.T, host string) {
	t.Helper()
	body, err := json.Marshal(jobs.Heartbeat{Host: host, Incarnation: "1"})
	if err != nil {
		t.Fatal(err)
	}
	b.hear(&nats.Msg{Subject: jobs.SubjectHeartbeat + host, Data: body})
}

func (b *judging) pass(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(tick)
		b.judge(b.connected, func(string) error { b.probes++; return b.probe })
	}
}

func (b *judging) lives(host string) bool {
	return slices.ContainsFunc(b.live(), func(h jobs.Heartbeat) bool { return h.Host == host })
}

func judged(t *testing.T, test func(t *testing.T, b *judging)) {
	synctest.Test(t, func(t *testing.T) {
		b := &judging{connected: true}
		b.beat(t, "h")
		test(t, b)
	})
}

func TestAHostIsDeadWhenTwoProbesFindNobody(t *testing.T) {
	judged(t, func(t *testing.T, b *judging) {
		b.probe = nats.ErrNoResponders
		b.pass(probeAfter + tick)
		if b.probes != 1 || !b.lives("h") {
			t.Errorf("%d probes, lives %t: one that finds nobody may be a connection that is made anew", b.probes, b.lives("h"))
		}
		b.pass(probeGap)
		if b.probes != 2 || b.lives("h") {
			t.Errorf("%d probes, lives %t", b.probes, b.lives("h"))
		}
	})
}

func TestAHostThatAnswersBetweenTwoProbesLives(t *testing.T) {
	judged(t, func(t *testing.T, b *judging) {
		b.pass(probeAfter)
		for range 5 { // never two in a row that find nobody
			b.probe = nats.ErrNoResponders
			b.pass(probeGap)
			b.probe = nil
			b.pass(probeGap)
		}
		if !b.lives("h") {
			t.Error("it is taken for dead")
		}
	})
}

func TestASilentHostIsDeadAfterALease(t *testing.T) {
	judged(t, func(t *testing.T, b *judging) {
		b.probe = nats.ErrTimeout // frozen, or cut off: the broker still has its connection
		b.pass(lease)
		if !b.lives("h") {
			t.Error("dead before the lease is over")
		}
		b.pass(2 * tick)
		if b.lives("h") {
			t.Error("alive after the lease")
		}
	})
}

func TestNobodyIsJudgedRightAfterTheJudgesOwnReconnect(t *testing.T) {
	judged(t, func(t *testing.T, b *judging) {
		b.connected, b.probe = false, nats.ErrNoResponders
		b.pass(2 * lease)
		b.connected = true
		b.pass(settle)
		if b.probes != 0 || !b.lives("h") {
			t.Errorf("%d probes, lives %t: the hosts need time to come back, too", b.probes, b.lives("h"))
		}
		b.pass(probeGap + 2*tick)
		if b.lives("h") {
			t.Error("who has not come back is alive")
		}
	})
}
