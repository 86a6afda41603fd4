package pyproc

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
	return max(0, (p.lackingLocked(c)+p.cfg.Overflow-p.burst)*p.slotsLocked()-p.waitingLocked())
}

// moreRoomLocked notes that a slot may have come free. Nothing is closed that nobody has seen: it is every call's end.
func (p *Pool) moreRoomLocked() {
	if p.roomWatched && (p.waitingLocked() == 0 || p.freeLocked() > 0) {
		p.roomWatched = false
		close(p.roomChanged)
		p.roomChanged = make(chan struct{})
	}
}
