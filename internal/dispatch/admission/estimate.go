package admission

import (
	"time"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/fair"
)

// estimate refuses calls that no slot could take in time. It holds an estimate of the calls that wait for a slot: what hosts
// report, and what was accepted since, less what they can have done since. A call is accepted if the wait is short against what
// the caller allows. Those that were idle are accepted for longer than those that call all the time; those that were refused
// and come back after the time in the refusal, for longest. So a crowd is refused within a moment, what is accepted ends in time, and
// no caller that comes back at the given time is refused again. It refuses nothing unless a report that is new reports that calls wait: an
// estimate alone would turn away who calls fast, one call after the other. It reads no clock and holds no lock: Gate does both (gate.go).
type estimate struct {
	now     time.Time
	began   time.Time // when the first call was accepted
	loads   map[string]*load
	anon    float64       // anonymous calls in the lane
	run     time.Duration // mean time of a job in its slot
	learned int64         // jobs that the mean is made of, as far as it counts
	recent  recent
	tickets tickets
	callers callers

	laneWaits bool // as was found at laneAt
	laneAt    time.Time
}

// load is what a host has reported, and what it must have by now.
type load struct {
	incarnation    string
	slots          int
	waiting        float64 // calls
	waits          bool    // calls waited at the report
	at             time.Time
	deep           map[string]int // session -> jobs that wait in it, of those that have many
	queued         bool           // published jobs wait, too
	ran, runMillis int64
}

// How much of the time that a caller allows may pass before its slot.
const (
	waitsBusy     = 0.4 // it calls all the time
	waitsIdle     = 0.6
	waitsReturned = 0.8 // it was refused and comes back after the time in the refusal

	reportDelay  = 50 * time.Millisecond  // from an acceptance to the report that counts it
	requestAfter = 10 * time.Millisecond  // since the last report
	reportCounts = 300 * time.Millisecond // a report that is older is no evidence about waiting calls
	returnShare  = 0.5                    // of the capacity is kept for those who come back
	firstRun     = time.Second            // the most that is assumed of a job before any has ended
	averageOf    = 200                    // jobs that the mean is made of
)

// observe takes a host's report.
func (a *estimate) observe(now time.Time, b control.Heartbeat) {
	a.pass(now)
	if a.loads == nil {
		a.loads = map[string]*load{}
	}
	h := a.loads[b.Host]
	if h == nil {
		h = &load{}
		a.loads[b.Host] = h
	}
	if h.incarnation != b.Incarnation {
		h.ran, h.runMillis = 0, 0 // a dispatcher that starts counts all that the host has run
	}
	if b.Ran > h.ran {
		a.average(b.Ran-h.ran, time.Duration(b.RunMillis-h.runMillis)*time.Millisecond)
	}
	*h = load{incarnation: b.Incarnation, slots: b.Capacity, queued: b.WaitingJobs > 0, ran: b.Ran, runMillis: b.RunMillis, at: now,
		waits: b.WaitingCalls > 0, deep: b.Deep}
	if b.Stopping || b.Leaving {
		h.slots = 0
	}
	h.waiting = float64(b.WaitingCalls)
	if all := a.slots(); all > 0 {
		h.waiting += a.recent.since(now.Add(-reportDelay)) * float64(h.slots) / float64(all)
	}
}

// keep removes hosts that are gone.
func (a *estimate) keep(live func(host string) bool) {
	for name := range a.loads {
		if !live(name) {
			delete(a.loads, name)
		}
	}
}

// observeLane takes the number of anonymous calls that wait in the lane.
func (a *estimate) observeLane(now time.Time, waiting int) {
	a.pass(now)
	a.anon, a.laneWaits, a.laneAt = float64(waiting), waiting > 0, now
}

// pressed reports whether a report that is new reports that calls wait.
func (a *estimate) pressed(now time.Time) bool {
	if a.laneWaits && now.Sub(a.laneAt) < reportCounts {
		return true
	}
	for _, h := range a.loads {
		if h.waits && now.Sub(h.at) < reportCounts {
			return true
		}
	}
	return false
}

// needsReport reports whether enough calls may wait for the hosts to be queried.
func (a *estimate) needsReport(now time.Time) bool {
	slots, waiting, newest := 0, 0.0, time.Time{}
	for _, h := range a.loads {
		slots += h.slots
		waiting += h.waiting
		if h.at.After(newest) {
			newest = h.at
		}
	}
	return waiting > float64(slots)/2 && now.Sub(newest) > requestAfter
}

func (a *estimate) average(n int64, took time.Duration) {
	mean := max(took/time.Duration(n), time.Millisecond)
	if a.learned == 0 {
		a.run = mean
	} else {
		share := float64(n) / float64(n+a.learned)
		a.run += time.Duration(share * float64(mean-a.run))
	}
	a.learned = min(a.learned+n, averageOf)
}

func (a *estimate) slots() (n int) {
	for _, h := range a.loads {
		n += h.slots
	}
	return n
}

// rate is how many calls a second the hosts can do.
func (a *estimate) rate() float64 {
	slots := 0.0
	for _, h := range a.loads {
		share := 1.0
		if h.queued {
			share = fair.Share(fair.Call, fair.Queued)
		}
		slots += share * float64(h.slots)
	}
	return slots / a.mean().Seconds()
}

// mean is how long a job takes in its slot. Before any has ended it is the time that the first ones have taken so far: a burst on
// hosts that have just started is refused for what was seen, not for a guess.
func (a *estimate) mean() time.Duration {
	if a.learned == 0 {
		return min(max(a.now.Sub(a.began), time.Millisecond), firstRun)
	}
	return a.run
}

func (a *estimate) waiting() float64 {
	n := a.anon
	for _, h := range a.loads {
		n += h.waiting
	}
	return n
}

// pass takes off what was done since the last look.
func (a *estimate) pass(now time.Time) {
	if spent := now.Sub(a.now); spent > 0 {
		waiting := a.waiting()
		left := max(waiting-a.rate()*spent.Seconds(), 0)
		for _, h := range a.loads {
			h.waiting *= left / max(waiting, 1e-9)
		}
		a.anon *= left / max(waiting, 1e-9)
		a.now = now
	}
}

// wait is how long a call that comes now waits for a slot.
func (a *estimate) wait() time.Duration {
	rate := a.rate()
	if rate <= 0 {
		return 0 // no host: the call is answered as such
	}
	return time.Duration(a.waiting() / rate * float64(time.Second))
}

// Admit decides about a call that may wait so long for its slot. session is the key of its session, "" of an anonymous one. A
// refused one may come back, under the same ticket, after the time returned, which is 0 for an accepted one.
func (a *estimate) admit(now time.Time, caller, ticket, session string, allowed time.Duration) time.Duration {
	a.pass(now)
	share := waitsIdle
	if a.callers.seen(now, caller) {
		share = waitsBusy
	}
	if a.tickets.due(now, ticket) {
		share = waitsReturned
	}
	pressed, wait := a.pressed(now), a.waitIn(session)
	if !pressed {
		a.tickets.calm(now)
	}
	if !pressed || wait <= time.Duration(share*float64(allowed)) {
		a.accept(now, session)
		return 0
	}
	calm := time.Duration(waitsBusy * float64(allowed) / 2)
	return a.tickets.issue(now, ticket, max(wait-calm, leastRetry), returnShare*a.rate())
}

// waitIn is how long a call that comes to the session now waits: its jobs run one after the other.
func (a *estimate) waitIn(session string) time.Duration {
	wait := a.wait()
	return wait + time.Duration(a.behind(session))*(a.mean()+wait)
}

// behind is how many jobs wait in the session, by the hosts' reports: they name those that have many.
func (a *estimate) behind(session string) int {
	for _, h := range a.loads {
		if n := h.deep[session]; n > 0 && session != "" {
			return n
		}
	}
	return 0
}

// accept counts a call.
func (a *estimate) accept(now time.Time, session string) {
	if a.began.IsZero() {
		a.began = now
	}
	switch {
	case session == "":
		a.anon++
		return
	case a.behind(session) > 0:
		return // it waits for its session, not for a slot
	}
	a.recent.add(now)
	if all := a.slots(); all > 0 {
		for _, h := range a.loads {
			h.waiting += float64(h.slots) / float64(all)
		}
	}
}

// recent counts what was accepted in the last moments, by 10 ms.
type recent struct {
	began  time.Time
	counts [16]struct {
		step int64
		n    float64
	}
}

const recentStep = 10 * time.Millisecond

func (r *recent) add(now time.Time) {
	if r.began.IsZero() {
		r.began = now
	}
	step := int64(now.Sub(r.began)/recentStep) + 1
	c := &r.counts[step%int64(len(r.counts))]
	if c.step != step {
		c.step, c.n = step, 0
	}
	c.n++
}

func (r *recent) since(t time.Time) (n float64) {
	if r.began.IsZero() {
		return 0
	}
	first := int64(t.Sub(r.began)/recentStep) + 1
	for _, c := range r.counts {
		if c.step > first {
			n += c.n
		}
	}
	return n
}
