package fleet

import (
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/control"
)

// judging is where hosts are judged: every tick, as the leader's loop does.
type judging struct {
	Fleet
	connected bool
	probe     error // what a probe ends with
	probes    atomic.Int32
}

func (b *judging) beat(host string) {
	b.observe(control.Heartbeat{Host: host, Incarnation: "1"})
}

func (b *judging) pass(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(Tick)
		b.judge(b.connected, func(string) error { b.probes.Add(1); return b.probe })
	}
}

func (b *judging) lives(host string) bool {
	return slices.ContainsFunc(b.Live(), func(h control.Heartbeat) bool { return h.Host == host })
}

func judged(t *testing.T, test func(t *testing.T, b *judging)) {
	synctest.Test(t, func(t *testing.T) {
		b := &judging{connected: true}
		b.looked = time.Now()
		b.beat("h")
		test(t, b)
	})
}

func TestAHostIsDeadWhenTwoProbesFindNobody(t *testing.T) {
	judged(t, func(t *testing.T, b *judging) {
		b.probe = nats.ErrNoResponders
		b.pass(probeAfter + Tick)
		if b.probes.Load() != 1 || !b.lives("h") {
			t.Errorf("%d probes, lives %t: one that gets no answer may meet a connection that is re-established", b.probes.Load(), b.lives("h"))
		}
		b.pass(probeGap)
		if b.probes.Load() != 2 || b.lives("h") {
			t.Errorf("%d probes, lives %t", b.probes.Load(), b.lives("h"))
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
		b.pass(2 * Tick)
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
		b.pass(afterReconnect)
		if b.probes.Load() != 0 || !b.lives("h") {
			t.Errorf("%d probes, lives %t: the hosts need time to come back, too", b.probes.Load(), b.lives("h"))
		}
		b.pass(probeGap + 2*Tick)
		if b.lives("h") {
			t.Error("who has not come back is alive")
		}
	})
}

func TestWhoWasNotHeardYetIsNotJudgedAndThenLikeAnyOther(t *testing.T) {
	owners := map[int]string{0: "h", 1: "new", 2: ""}
	judged(t, func(t *testing.T, b *judging) {
		if _, u := b.Survey(owners); !slices.Equal(u, []string{"new"}) {
			t.Fatalf("unjudged: %v", u)
		}
		b.probe = nats.ErrTimeout
		b.pass(lease)
		b.beat("h")
		if _, u := b.Survey(owners); !slices.Equal(u, []string{"new"}) || b.lives("new") {
			t.Errorf("unjudged before the lease is over: %v", u)
		}
		b.pass(2 * Tick)
		if _, u := b.Survey(owners); u != nil {
			t.Errorf("unjudged after the lease: %v", u)
		}
		b.beat("new")
		if _, u := b.Survey(owners); u != nil || !b.lives("new") {
			t.Errorf("it is heard, and %v", u)
		}
		b.Survey(map[int]string{})
		if len(b.all) != 2 {
			t.Errorf("the living are kept though they own nothing: %v", b.all)
		}
	})
}

func TestAHostThatSaysGoodbyeIsDeadAtOnce(t *testing.T) {
	judged(t, func(t *testing.T, b *judging) {
		b.Survey(map[int]string{0: "unheard"})
		for _, host := range []string{"h", "unheard"} {
			b.observe(control.Heartbeat{Host: host, Incarnation: "1", Leaving: true})
		}
		if _, u := b.Survey(map[int]string{0: "unheard", 1: "h"}); u != nil || b.lives("h") || b.lives("unheard") {
			t.Errorf("unjudged %v, live %v", u, b.Live())
		}
	})
}

func TestNobodyIsJudgedRightAfterTheJudgeItselfWasFrozen(t *testing.T) {
	judged(t, func(t *testing.T, b *judging) {
		b.pass(time.Second)
		time.Sleep(2 * lease) // what the host has sent meanwhile is still in the socket
		b.probe = nats.ErrTimeout
		b.pass(Tick)
		if !b.lives("h") {
			t.Fatal("it is taken for dead")
		}
		b.pass(lease + Tick)
		if b.lives("h") {
			t.Error("and it is never judged again")
		}
	})
}

func TestADispatcherHasListenedWhenAllHostsHaveHadTheTimeToSpeak(t *testing.T) {
	judged(t, func(t *testing.T, b *judging) {
		b.connected, b.Fleet.connected, b.looked = true, time.Now(), time.Now()
		b.pass(probeAfter - Tick/2)
		if b.Listened() {
			t.Error("too early")
		}
		b.pass(Tick)
		if !b.Listened() {
			t.Error("never")
		}
	})
}
