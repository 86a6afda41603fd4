package anonymous

import (
	"sync"

	"github.com/dspex/dspex/internal/fair"
	"github.com/dspex/dspex/internal/jobs"
)

// lanes decide how many anonymous jobs a host requests, and which of those that come may take a slot.
//
// Each lane requests as many as there is room for now, so that a job starts at once wherever there is room. The lanes share the room,
// and sessions take of it what they need: more may come than have room. Those go back to the broker, which gives them to the
// next host that pulls, instead of waiting here. While sessions wait for slots there is no room, and never will be: then one job
// of each lane stands in line with them, where package fair gives it its share.
//
// Batch jobs leave a slot of the host to others (fair.Reserve, one at least) and start no overflow workers. While interactive
// jobs wait there is one batch job at a time, in whichever slot, so that they do not wait for ever.
type lanes struct {
	mu        sync.Mutex
	requested map[string]int // of each lane: jobs that may come still, or have and are not admitted yet
	entering  int            // jobs that may take a slot, and that have not entered the pool yet
	batch     int            // batch jobs that are entering or run
	kept      int            // slots that batch jobs leave to others
	most      int            // batch jobs at most
	single    bool           // the host has one slot, which serves both lanes
	inLine    map[string]int // of each lane: jobs that wait for a slot among sessions, one at most
	pressed   bool           // interactive jobs waited in the stream when the lane was looked at last
	kicks     map[string]chan struct{}
}

// room is what a pool has for anonymous jobs.
type room struct {
	free    int // slots that nobody has
	allowed int // slots of overflow workers that may be started, where none is free
	waiting int // sessions that wait for a slot
}

// lanesFor makes the lanes of a host with capacity slots.
func lanesFor(capacity int) *lanes {
	l := &lanes{requested: map[string]int{}, inLine: map[string]int{}, kicks: map[string]chan struct{}{
		jobs.LaneInteractive: make(chan struct{}, 1), jobs.LaneBatch: make(chan struct{}, 1),
	}}
	l.resize(capacity)
	return l
}

// resize makes them those of a host with capacity slots.
func (l *lanes) resize(capacity int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = max(fair.Reserve(capacity), 1)
	l.most, l.single = fair.BatchSlots(capacity), capacity <= 1
	for lane := range l.kicks {
		l.kick(lane)
	}
}

// roomLocked is what is left for a lane.
func (l *lanes) roomLocked(lane string, r room) int {
	if lane != jobs.LaneBatch {
		return max(r.free, r.allowed) - l.entering
	}
	left, most := r.free-l.entering-l.kept, l.most
	if l.pressed || l.single {
		left, most = r.free-l.entering, 1
	}
	return min(left, most-l.batch)
}

// request reports how many jobs to request, and counts them as requested. It waits until half of those that were requested have come:
// few requests then wait at the broker.
func (l *lanes) request(lane string, r room) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	want, requested := l.roomLocked(lane, r), l.requested[lane]
	if l.mayStandLocked(lane, r, want) {
		want = 1
	}
	if want <= 0 || requested > want/2 {
		return 0
	}
	l.requested[lane] = want
	return want - requested
}

// mayStandLocked reports whether a job of the lane may stand in line with sessions.
func (l *lanes) mayStandLocked(lane string, r room, left int) bool {
	if lane == jobs.LaneBatch && l.pressed && l.batch > 0 {
		return false
	}
	return left <= 0 && r.waiting > 0 && l.inLine[lane] == 0
}

// missed reports that n jobs of those that were requested do not come.
func (l *lanes) missed(lane string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requested[lane] -= n
	l.kick(lane)
}

// press reports whether interactive jobs wait.
func (l *lanes) press(waiting bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pressed = waiting
	l.kick(jobs.LaneBatch)
}

func (l *lanes) kick(lane string) {
	select {
	case l.kicks[lane] <- struct{}{}:
	default:
	}
}

// arrival is a job that came, until it leaves.
type arrival struct {
	l     *lanes
	lane  string
	stage stage
	line  bool // it stands in line with sessions
}

// stage is how far a job is on its way to a slot.
type stage uint8

const (
	requested stage = iota // it counts as one that may come still: none is requested in its place
	admitted               // it may take a slot
	inPool                 // it has entered the pool: it has a slot, or waits for one that is starting
	gone                   // it had no room
)

func (l *lanes) arrive(lane string) *arrival { return &arrival{l: l, lane: lane} }

// admit lets the job take a slot if there is room for it, or if it must stay.
func (a *arrival) admit(r room, stays bool) bool {
	l := a.l
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requested[a.lane]--
	left := l.roomLocked(a.lane, r)
	if l.mayStandLocked(a.lane, r, left) {
		a.line = true
		l.inLine[a.lane]++
	} else if left <= 0 && !stays {
		a.stage = gone
		if a.lane == jobs.LaneInteractive {
			l.pressed = true
		}
		l.kick(a.lane)
		return false
	}
	a.stage = admitted
	l.entering++
	if a.lane == jobs.LaneBatch {
		l.batch++
	}
	return true
}

// enterPool reports that the job has entered the pool.
func (a *arrival) enterPool() {
	a.l.mu.Lock()
	defer a.l.mu.Unlock()
	if a.stage == admitted {
		a.stage = inPool
		a.l.entering--
		a.l.kick(jobs.LaneInteractive) // with the last free slot gone, overflow may be allowed
	}
}

// start reports that the job has its slot.
func (a *arrival) start() {
	a.enterPool()
	a.l.mu.Lock()
	defer a.l.mu.Unlock()
	a.stepOutLocked()
}

// stepOutLocked leaves the line to the next job of the lane.
func (a *arrival) stepOutLocked() {
	if a.line {
		a.line = false
		a.l.inLine[a.lane]--
		a.l.kick(a.lane)
	}
}

// leave reports that the job needs no slot any more.
func (a *arrival) leave() {
	l := a.l
	l.mu.Lock()
	defer l.mu.Unlock()
	a.stepOutLocked()
	switch a.stage {
	case requested:
		l.requested[a.lane]--
	case admitted:
		l.entering--
	case inPool, gone:
	}
	if a.lane == jobs.LaneBatch && (a.stage == admitted || a.stage == inPool) {
		l.batch--
	}
	a.stage = gone
	l.kick(a.lane)
}
