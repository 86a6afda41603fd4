package host

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

const (
	anonymousAckWait = 20 * time.Second
	anonymousAlive   = 5 * time.Second       // InProgress while an attempt runs
	anonymousExpiry  = time.Second           // of one pull: a slot that comes free is asked for within it
	anonymousPause   = 20 * time.Millisecond // between looks while no slot is free
)

// lanes decide how many anonymous jobs a host asks for. It asks for no more than it has free slots, so that a job never waits
// here while another host could run it. Interactive jobs go first: batch jobs never take the last slot, and while interactive
// ones wait there is one of them at a time, so that they do not wait for ever.
type lanes struct {
	mu      sync.Mutex
	asked   int  // pulled for, or here and without a slot yet
	batch   int  // of these and of those that run, the batch jobs
	reserve int  // batch jobs at most
	single  bool // the host has one slot, which serves both lanes
	pressed bool // interactive jobs waited in the stream when the lane was looked at last
}

// lanesFor makes the lanes of a host with so many slots.
func lanesFor(capacity int) lanes {
	return lanes{reserve: max(capacity-1, 1), single: capacity <= 1}
}

// ask reserves up to half of the free slots, so that the other lane is asked for, too.
func (l *lanes) ask(lane string, free int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := (free - l.asked + 1) / 2
	if lane == jobs.LaneBatch {
		n = min(n, free-l.asked-1, l.reserve-l.batch)
		if l.single && l.batch == 0 && l.asked == 0 && free > 0 {
			n = 1
		}
		if l.pressed {
			n = min(n, 1-l.batch)
		}
	}
	n = max(n, 0)
	l.asked += n
	if lane == jobs.LaneBatch {
		l.batch += n
	}
	return n
}

// seated says that n jobs that were asked for have a slot, or are not here.
func (l *lanes) seated(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked -= n
}

// press says whether interactive jobs wait.
func (l *lanes) press(waiting bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pressed = waiting
}

// over says that n batch jobs have ended, or are not here.
func (l *lanes) over(lane string, n int) {
	if lane != jobs.LaneBatch {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.batch -= n
}

// anonymous pulls a lane's jobs for as many slots as are free.
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
		l := &laneConsumer{Consumer: cons, lane: lane}
		for ctx.Err() == nil && accounts == h.accounts.Load() && h.pull(ctx, l, &wg) {
		}
	}
}

// laneConsumer is a lane's consumer as one connection sees it.
type laneConsumer struct {
	jetstream.Consumer
	lane       string
	since      moment // a job accepted later and delivered once is new to every host
	reconnects uint64
}

// look notices a connection that was made again: the broker may have forgotten how often it has delivered a job.
func (l *laneConsumer) look(h *Host) {
	if n := h.nc.Stats().Reconnects; l.since.at.IsZero() || n != l.reconnects {
		l.reconnects = n
		l.since = h.present()
	}
}

// pull fetches once. It reports false when something is wrong with the consumer.
func (h *Host) pull(ctx context.Context, cons *laneConsumer, wg *sync.WaitGroup) bool {
	lane := cons.lane
	cons.look(h)
	n := 0
	if h.full.Load() == 0 && !h.draining.Load() && !h.standsAside() { // nothing is run that could not be stored
		n = h.lanes.ask(lane, h.cfg.Pool.Free())
	}
	if n == 0 {
		wait(ctx, nil, anonymousPause)
		return true
	}
	asked := h.clock.Mono()
	batch, err := cons.Fetch(n, jetstream.FetchMaxWait(anonymousExpiry))
	if err == nil {
		since := cons.since
		var last jetstream.Msg
		for m := range batch.Messages() {
			n--
			last = m
			wg.Go(func() {
				defer h.lanes.over(lane, 1)
				seated := sync.OnceFunc(func() { h.lanes.seated(1) })
				defer seated()
				h.runAnonymous(m, asked, since, seated)
			})
		}
		err = batch.Error()
		if lane == jobs.LaneInteractive {
			h.lanes.press(moreBehind(last))
		}
	}
	h.lanes.seated(n)
	h.lanes.over(lane, n)
	if err != nil && !errors.Is(err, jetstream.ErrNoMessages) && ctx.Err() == nil {
		wait(ctx, nil, brokerPause)
		return false
	}
	if n > 0 && h.lanes.single {
		wait(ctx, nil, 2*anonymousPause) // the other lane's turn: it looks every anonymousPause
	}
	return true
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
