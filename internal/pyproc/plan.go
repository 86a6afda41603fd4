package pyproc

import (
	"slices"
	"time"

	"github.com/dspex/dspex/internal/pyproc/proc"
)

// What there should be and what there is. Limits.Size workers serve, up to Limits.Overflow more while callers wait. Workers
// in reserve (state Spare) are ready and serve nobody: they step in for one that died, for one that is due to be replaced, or
// for a burst, without a moment's loss. A worker that is due goes on serving until its replacement is ready.

// census counts the supervisors that are to have a worker.
type census struct {
	wanted  int // all of them
	serving int // with a worker that takes calls
	spare   int // with a worker in reserve
	due     int // of serving: to be replaced
	coming  int // starting
}

func (p *Pool) censusLocked() census {
	var c census
	for _, s := range p.supervisors {
		if !s.wanted {
			continue
		}
		c.wanted++
		switch {
		case s.w != nil && s.w.open:
			c.serving++
			if s.w.due != "" {
				c.due++
			}
		case s.state == Spare:
			c.spare++
		case s.state != Backoff && s.state != Quarantined:
			c.coming++
		}
	}
	return c
}

// replanLocked is called after every change of what there is or should be.
func (p *Pool) replanLocked() {
	if !p.running || p.stopping {
		return
	}
	p.burstLocked(p.censusLocked())
	p.promoteLocked(p.censusLocked())
	c := p.censusLocked()
	want := p.targetLocked() + p.reserveSizeLocked(c)
	for ; c.wanted < want; c.wanted++ {
		if !p.fillLocked() {
			break // every supervisor has a worker that leaves: the next that has left lets it go on
		}
	}
	for ; c.wanted > want; c.wanted-- {
		if !p.dismissLocked() {
			break
		}
	}
	p.grantLocked()
	p.moreRoomLocked()
}

func (p *Pool) targetLocked() int { return p.limits.Size + p.burst }

// burstLocked raises the target when more callers wait than the workers that are starting have slots for.
func (p *Pool) burstLocked(c census) {
	if p.waitingLocked() == 0 || !p.mayBurstLocked(c) {
		return
	}
	slots := p.slotsLocked()
	if more := min((p.waitingLocked()+slots-1)/slots-p.lackingLocked(c), p.limits.Overflow-p.burst); more > 0 {
		p.burst += more
	}
	p.pressed = time.Now()
}

// lackingLocked counts the workers that will serve as soon as they are ready.
func (p *Pool) lackingLocked(c census) int {
	return min(max(0, p.targetLocked()-c.serving), c.coming+c.spare)
}

// mayBurstLocked reports whether workers can be started and all that there should be have served: during the start of a host nothing
// else is missing.
func (p *Pool) mayBurstLocked(c census) bool { return p.full && c.serving > 0 }

func (p *Pool) slotsLocked() int { return max(1, p.slots) }

// calmLocked lowers the target when one worker less has been enough for a while.
func (p *Pool) calmLocked(now time.Time) {
	p.pressedLocked()
	if p.burst > 0 && p.waitingLocked() == 0 && now.Sub(p.pressed) >= p.cfg.OverflowIdle {
		p.burst--
		if p.censusLocked().serving > p.targetLocked() {
			p.standDownLocked()
		}
		p.replanLocked()
	}
}

// pressedLocked notes that everything that serves is needed.
func (p *Pool) pressedLocked() {
	if p.burst == 0 {
		return
	}
	free, most := 0, 0
	for _, s := range p.supervisors {
		free += s.freeLocked()
		if s.w != nil && s.w.open {
			most = max(most, s.w.slots)
		}
	}
	if free < most {
		p.pressed = time.Now()
	}
}

// promoteLocked lets workers in reserve serve: in place of what is missing, then of what is due.
func (p *Pool) promoteLocked(c census) {
	for _, s := range p.supervisors {
		if s.state != Spare || !s.wanted {
			continue
		}
		if c.serving >= p.targetLocked() {
			old := p.dueLocked()
			if old == nil {
				return
			}
			p.recycled++
			p.retireLocked(old, Draining)
			c.serving--
		}
		p.openLocked(s.w)
		c.serving++
	}
}

// openLocked lets a worker take calls.
func (p *Pool) openLocked(w *worker) {
	w.open = true
	p.moveLocked(w.supervisor, Idle, nil)
	p.full = p.full || p.censusLocked().serving >= p.targetLocked()
	p.announceLocked()
}

// dueLocked returns the worker that has been due for longest, nil if none is.
func (p *Pool) dueLocked() *worker {
	var found *worker
	for _, s := range p.supervisors {
		if s.w != nil && s.w.open && s.w.due != "" && (found == nil || s.w.dueAt.Before(found.dueAt)) {
			found = s.w
		}
	}
	return found
}

// reserveSizeLocked is how many workers should be in reserve: replacements for at most a quarter of the pool at once, and
// where starts are slow the spares of the Config. These come last: at the start they would take time from the others.
func (p *Pool) reserveSizeLocked(c census) int {
	n := min(c.due, max(1, p.limits.Size/4))
	if p.full && !p.zygotes.forking() {
		n = max(n, p.cfg.Spares)
	}
	return n
}

// fillLocked has one more supervisor start a worker.
func (p *Pool) fillLocked() bool {
	for _, s := range p.supervisors {
		if !s.wanted && s.state == Empty {
			s.wanted = true
			proc.Poke(s.kick)
			return true
		}
	}
	return false
}

// dismissLocked has one worker less: one that only waits to start again, else a worker in reserve. Starts that run are let run.
func (p *Pool) dismissLocked() bool {
	for _, states := range [][]State{{Backoff, Quarantined}, {Spare}} {
		for _, s := range slices.Backward(p.supervisors) { // a pool keeps its first supervisors
			if !s.wanted || !slices.Contains(states, s.state) {
				continue
			}
			if s.w != nil {
				p.retireLocked(s.w, Draining)
			}
			s.wanted = false
			proc.Poke(s.kick)
			return true
		}
	}
	return false
}

// standDownLocked has one worker less serve: the least loaded. One that is idle goes to the reserve.
func (p *Pool) standDownLocked() {
	var w *worker
	for _, s := range p.supervisors {
		if s.w != nil && s.w.open && (w == nil || s.w.used <= w.used) {
			w = s.w
		}
	}
	switch {
	case w == nil:
	case w.used == 0 && w.reserved == nil:
		w.open = false
		p.moveLocked(w.supervisor, Spare, nil)
	default:
		p.retireLocked(w, Draining)
	}
}

// arrive takes a worker that is ready into the pool.
func (p *Pool) arrive(w *worker) {
	p.zygotes.note(true)
	p.mu.Lock()
	defer p.mu.Unlock()
	s := w.supervisor
	w.slots, w.readyAt = int(w.ready.Slots), time.Now()
	p.slots = w.slots
	s.startErr, s.lastErr, s.quarantined = nil, nil, false
	if p.censusLocked().serving < p.targetLocked() {
		p.openLocked(w)
	} else {
		p.moveLocked(s, Spare, nil)
	}
	p.replanLocked()
}

// tend looks after a ready worker and the size of the pool, every Config.PingEvery.
func (p *Pool) tend(w *worker, now time.Time, own uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.open && w.due == "" {
		if w.due = p.limits.Recycle.Reason(now.Sub(w.readyAt), w.jobs.Load(), own, w.spread); w.due != "" {
			w.dueAt = now
			p.cfg.Log.Debug("worker_due", "worker", w.Name, "pid", w.Child.PID, "reason", w.due)
			p.replanLocked()
		}
	}
	p.calmLocked(now)
}

// Room reports how many more calls would get a slot without waiting for another call to end: in the free slots or, where there is
// none, in overflow workers that may be started. changed is closed as soon as there may be more.
func (p *Pool) Room() (free, allowed int, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.roomWatched = true
	if free = p.freeLocked(); free == 0 {
		allowed = p.allowedLocked()
	}
	return free, allowed, p.roomChanged
}

func (p *Pool) freeLocked() int {
	n := 0
	for _, s := range p.supervisors {
		n += s.freeLocked()
	}
	return n
}

// allowedLocked counts the slots of overflow workers that are starting or may be started, less the callers who wait for them.
func (p *Pool) allowedLocked() int {
	c := p.censusLocked()
	if !p.mayBurstLocked(c) {
		return 0
	}
	return max(0, (p.lackingLocked(c)+p.limits.Overflow-p.burst)*p.slotsLocked()-p.waitingLocked())
}

// moreRoomLocked notes that a slot may have come free. Nothing is closed that nobody has seen: it is every call's end.
func (p *Pool) moreRoomLocked() {
	if p.roomWatched && (p.waitingLocked() == 0 || p.freeLocked() > 0) {
		p.roomWatched = false
		close(p.roomChanged)
		p.roomChanged = make(chan struct{})
	}
}
