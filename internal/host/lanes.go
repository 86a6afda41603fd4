package host

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/stream"
)

const (
	anonymousAckWait = 20 * time.Second
	anonymousAlive   = 5 * time.Second        // InProgress while an attempt runs
	anonymousExpiry  = time.Second            // of one pull
	anonymousPause   = 100 * time.Millisecond // between looks while no job is asked for, whatever is free
)

// lanes decide how many anonymous jobs a host asks for, and which of those that come may take a slot.
//
// Each lane asks for as many as there is room for now, so that a job starts at once wherever there is room. The lanes share the room,
// and sessions take of it what they need: more may come than have room. Those go back to the broker, which gives them to the
// next host that asks, instead of waiting here. While sessions wait for slots there is no room, and never will be: then one job
// of each lane stands in line with them, where package fair gives it its share.
//
// Batch jobs leave one slot of the host to others and start no overflow workers. While interactive jobs wait there is one
// batch job at a time, in whichever slot, so that they do not wait for ever.
type lanes struct {
	mu       sync.Mutex
	asked    map[string]int // of each lane: jobs that may come still, or have and are not admitted yet
	entering int            // jobs that may take a slot, and that the pool does not know of yet
	batch    int            // batch jobs that are entering or run
	reserve  int            // batch jobs at most
	single   bool           // the host has one slot, which serves both lanes
	inLine   map[string]int // of each lane: jobs that wait for a slot among sessions, one at most
	pressed  bool           // interactive jobs waited in the stream when the lane was looked at last
	kicks    map[string]chan struct{}
}

// room is what a pool has for anonymous jobs.
type room struct {
	free    int // slots that nobody has
	allowed int // slots of overflow workers that may be started, where none is free
	waiting int // sessions that wait for a slot
}

// lanesFor makes the lanes of a host with so many slots.
func lanesFor(capacity int) *lanes {
	return &lanes{reserve: max(capacity-1, 1), single: capacity <= 1, asked: map[string]int{}, inLine: map[string]int{}, kicks: map[string]chan struct{}{
		jobs.LaneInteractive: make(chan struct{}, 1), jobs.LaneBatch: make(chan struct{}, 1),
	}}
}

// roomLocked is what is left for a lane.
func (l *lanes) roomLocked(lane string, r room) int {
	if lane != jobs.LaneBatch {
		return max(r.free, r.allowed) - l.entering
	}
	left, most := r.free-l.entering-1, l.reserve
	if l.pressed || l.single {
		left, most = r.free-l.entering, 1
	}
	return min(left, most-l.batch)
}

// ask tells how many jobs to ask for, and counts them as asked. It waits until half of those that were asked for have come:
// few requests then wait at the broker.
func (l *lanes) ask(lane string, r room) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	want, asked := l.roomLocked(lane, r), l.asked[lane]
	if l.mayStandLocked(lane, r, want) {
		want = 1
	}
	if want <= 0 || asked > want/2 {
		return 0
	}
	l.asked[lane] = want
	return want - asked
}

// mayStandLocked reports whether a job of the lane may stand in line with sessions.
func (l *lanes) mayStandLocked(lane string, r room, left int) bool {
	if lane == jobs.LaneBatch && l.pressed && l.batch > 0 {
		return false
	}
	return left <= 0 && r.waiting > 0 && l.inLine[lane] == 0
}

// missed says that n jobs of those that were asked for do not come.
func (l *lanes) missed(lane string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked[lane] -= n
	l.kick(lane)
}

// press says whether interactive jobs wait.
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
	asked    stage = iota // it counts as one that may come still: none is asked for in its place
	admitted              // it may take a slot
	seated                // the pool knows of it: it has a slot, or waits for one that is starting
	gone                  // it had no room
)

func (l *lanes) arrive(lane string) *arrival { return &arrival{l: l, lane: lane} }

// admit lets the job take a slot if there is room for it, or if it must stay.
func (a *arrival) admit(r room, stays bool) bool {
	l := a.l
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked[a.lane]--
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

// seat says that the pool knows of the job.
func (a *arrival) seat() {
	a.l.mu.Lock()
	defer a.l.mu.Unlock()
	if a.stage == admitted {
		a.stage = seated
		a.l.entering--
		a.l.kick(jobs.LaneInteractive) // with the last free slot gone, overflow may be allowed
	}
}

// start says that the job has its slot.
func (a *arrival) start() {
	a.seat()
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

// leave says that the job needs no slot any more.
func (a *arrival) leave() {
	l := a.l
	l.mu.Lock()
	defer l.mu.Unlock()
	a.stepOutLocked()
	switch a.stage {
	case asked:
		l.asked[a.lane]--
	case admitted:
		l.entering--
	case seated, gone:
	}
	if a.lane == jobs.LaneBatch && (a.stage == admitted || a.stage == seated) {
		l.batch--
	}
	a.stage = gone
	l.kick(a.lane)
}

// anonymous asks for a lane's jobs while there is room for them.
func (h *Host) anonymous(ctx context.Context, lane string) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for ctx.Err() == nil {
		accounts := h.accounts.Load()
		cons, err := h.js.CreateOrUpdateConsumer(ctx, stream.Anonymous, jetstream.ConsumerConfig{
			Durable: lane, FilterSubjects: jobs.LaneSubjects(lane, accounts), AckPolicy: jetstream.AckExplicitPolicy,
			AckWait: anonymousAckWait, MaxDeliver: -1, MaxAckPending: stream.MaxAckPending,
		})
		if err != nil {
			h.log.Warn("lane_unavailable", "lane", lane, "error", err)
			wait(ctx, nil, brokerPause)
			continue
		}
		l := &laneConsumer{Consumer: cons, lane: lane, wrong: make(chan struct{}, 1)}
		for ctx.Err() == nil && accounts == h.accounts.Load() && h.pull(ctx, l, &wg) {
		}
	}
}

// laneConsumer is a lane's consumer as one connection sees it.
type laneConsumer struct {
	jetstream.Consumer
	lane       string
	since      lifecycle.Moment // a job accepted later and delivered once is new to every host
	reconnects uint64
	wrong      chan struct{} // capacity 1: a pull has failed
}

// look notices a connection that was made again: the broker may have forgotten how often it has delivered a job.
func (l *laneConsumer) look(h *Host) {
	if n := h.nc.Stats().Reconnects; l.since.At.IsZero() || n != l.reconnects {
		l.reconnects = n
		l.since = h.present()
	}
}

// pull asks for as many jobs as there is room for, and returns when there may be room for more. It reports false when
// something is wrong with the consumer.
func (h *Host) pull(ctx context.Context, l *laneConsumer, wg *sync.WaitGroup) bool {
	l.look(h)
	r, changed := h.room()
	pause := anonymousExpiry
	if h.full.Load() > 0 || h.draining.Load() || h.standsAside() { // nothing is run that could not be stored
		pause = anonymousPause
	} else if n := h.lanes.ask(l.lane, r); n > 0 {
		since := l.since
		wg.Go(func() { h.fetch(ctx, l, n, since, wg) })
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-changed:
	case <-h.lanes.kicks[l.lane]:
	case <-timer.C:
	case <-l.wrong:
		wait(ctx, nil, brokerPause)
		return false
	}
	return true
}

// fetch is one pull, and runs what it brings.
func (h *Host) fetch(ctx context.Context, l *laneConsumer, n int, since lifecycle.Moment, wg *sync.WaitGroup) {
	began := h.clock.Mono()
	batch, err := l.Fetch(n, jetstream.FetchMaxWait(anonymousExpiry))
	var last jetstream.Msg
	if err == nil {
		for m := range batch.Messages() {
			n--
			last = m
			a := h.lanes.arrive(l.lane)
			wg.Go(func() {
				defer a.leave()
				h.runAnonymous(m, began, since, a)
			})
		}
		err = batch.Error()
	}
	if l.lane == jobs.LaneInteractive {
		h.lanes.press(moreBehind(last))
	}
	h.lanes.missed(l.lane, n)
	if err != nil && !errors.Is(err, jetstream.ErrNoMessages) && ctx.Err() == nil {
		select {
		case l.wrong <- struct{}{}:
		default:
		}
	}
}

// admit lets an anonymous job take a slot of this host if there is room for it, or else waits for one here. One whose id was
// chosen stays: repeats of its id share the record of its attempts, and would count its deliveries as theirs.
func (h *Host) admit(t *attempt, a *arrival) bool {
	r, _ := h.room()
	return a.admit(r, t.Env.Chosen)
}

// room is what the pool has now; changed is closed as soon as there may be more.
func (h *Host) room() (r room, changed <-chan struct{}) {
	r.free, r.allowed, changed = h.cfg.Pool.Room()
	r.waiting = int(h.waitsFor(callTurn) + h.waitsFor(queuedTurn))
	return r, changed
}

// moreBehind reports whether jobs of the lane wait behind the last one that came, nil if none did.
func moreBehind(last jetstream.Msg) bool {
	if last == nil {
		return false
	}
	meta, err := last.Metadata()
	return err == nil && meta.NumPending > 0
}

// standsAside reports whether anonymous jobs are left to other hosts: this one's workers fail, and there is another host whose
// workers are not known to. A host that fails its calls at once has free slots always, and would get more than its share.
func (h *Host) standsAside() bool {
	if h.breakers.Look(jobs.PoolBreaker(h.cfg.Name)) == nil {
		return false
	}
	return h.assigned.any(func(host string) bool { return host != h.cfg.Name && !h.outages.fails(host) })
}
