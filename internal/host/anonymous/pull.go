package anonymous

import (
	"context"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/stream"
)

const (
	pullTime    = time.Second            // of one pull
	pausedTime  = 100 * time.Millisecond // between looks while no job is requested, whatever is free
	brokerPause = time.Second            // between tries when the broker does not answer
)

// Run requests a lane's jobs while there is room for them, until ctx ends, and returns when those that came have ended.
func (all *Jobs) Run(ctx context.Context, lane string) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for ctx.Err() == nil {
		accounts := all.On.Accounts()
		from, err := all.On.OpenLane(ctx, lane, jobs.LaneSubjects(lane, accounts))
		if err != nil {
			all.On.Log.Warn("lane_unavailable", "lane", lane, "error", err)
			all.pause(ctx)
			continue
		}
		l := &laneConsumer{Lane: from, lane: lane, wrong: make(chan struct{}, 1)}
		for ctx.Err() == nil && accounts == all.On.Accounts() && all.pull(ctx, l, &wg) {
		}
	}
}

func (all *Jobs) pause(ctx context.Context) {
	timer := time.NewTimer(brokerPause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// laneConsumer is a lane's consumer as one connection sees it.
type laneConsumer struct {
	*stream.Lane
	lane       string
	since      lifecycle.Moment // a job accepted later and delivered once is new to every host
	reconnects uint64
	wrong      chan struct{} // capacity 1: a pull has failed
}

// look detects a connection that was recreated: the broker may have dropped how often it has delivered a job.
func (l *laneConsumer) look(all *Jobs) {
	if n := all.On.NC.Stats().Reconnects; l.since.At.IsZero() || n != l.reconnects {
		l.reconnects = n
		l.since = lifecycle.Present(all.On.Clock)
	}
}

// pull requests as many jobs as there is room for, and returns when there may be room for more. It reports false when
// something is wrong with the consumer.
func (all *Jobs) pull(ctx context.Context, l *laneConsumer, wg *sync.WaitGroup) bool {
	l.look(all)
	r, changed := all.room()
	pause := pullTime
	if all.Drivers.Full() || all.Draining() || all.StandsAside() { // nothing is run that could not be stored
		pause = pausedTime
	} else if n := all.lanes.request(l.lane, r); n > 0 {
		since := l.since
		wg.Go(func() { all.fetch(ctx, l, n, since, wg) })
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-changed:
	case <-all.lanes.kicks[l.lane]:
	case <-timer.C:
	case <-l.wrong:
		all.pause(ctx)
		return false
	}
	return true
}

// fetch is one pull, and runs what it brings.
func (all *Jobs) fetch(ctx context.Context, l *laneConsumer, n int, since lifecycle.Moment, wg *sync.WaitGroup) {
	began, behind := all.On.Clock.Mono(), uint64(0)
	err := l.Fetch(n, pullTime, func(m stream.Delivery) {
		n--
		behind = m.Pending
		a := all.lanes.arrive(l.lane)
		all.Drivers.Goroutines.Go(all.Drivers.Work, wg, func() {
			defer a.leave()
			all.run(&m, began, since, a)
		})
	})
	if l.lane == jobs.LaneInteractive {
		all.lanes.press(behind > 0)
	}
	all.lanes.missed(l.lane, n)
	if err != nil && ctx.Err() == nil {
		select {
		case l.wrong <- struct{}{}:
		default:
		}
	}
}
