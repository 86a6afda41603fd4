package host

import (
	"context"
	"time"

	"github.com/dspex/dspex/internal/clock"
)

// A host that stood still (SIGSTOP, a paused machine) does not notice it. What it was about to start may have been run and finished
// elsewhere meanwhile: records are fenced, what a job does to the world is not. So the last look before a CALL is at the clock.

// lease is for how long a host may start what the broker has confirmed: a frozen process keeps its connection for two pings of the
// broker (4 s), and only then, or after 10 s of silence, may a dispatcher take it for dead.
const lease = 2 * time.Second

// leaseHolds reports whether what was confirmed then may be started now, by the monotonic clock, which goes on while the machine is suspended.
func leaseHolds(confirmed, now clock.Mono) bool { return now-confirmed < lease }

// confirm makes sure that the task's attempt may start: its record was written a moment ago, or the partition is still this epoch's.
func (s *session) confirm(ctx context.Context, t *task) error {
	for !leaseHolds(t.confirmed, s.p.h.clock.Mono()) {
		asked := s.p.h.clock.Mono()
		if err := s.p.h.insist(ctx, snag{s: s, j: t.job, step: stepRecord}, func() error { return s.p.mine(ctx) }); err != nil {
			s.p.h.log.Warn("attempt_not_started", "session", s.ref.String(), "job", t.env.Job, "attempt", t.attempt, "error", err)
			return err
		}
		t.confirmed = asked
	}
	return nil
}

// gripHolds is for how long an anonymous job is this host's after it was asked for, or said to be alive: half of the AckWait, because
// what was said may have been lost with a connection that is noticed to be dead within 6 s.
const gripHolds = anonymousAckWait / 2

// grip is what holds an anonymous job. Once it was loose it stays so: the broker may have given the job to another host.
type grip struct {
	at    clock.Mono
	loose bool
}

func (g *grip) holds(now clock.Mono) bool {
	g.loose = g.loose || now-g.at >= gripHolds
	return !g.loose
}

// renew says that the job was said to be alive.
func (g *grip) renew(now clock.Mono) {
	if g.holds(now) {
		g.at = now
	}
}
