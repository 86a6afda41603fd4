package outcomes

import (
	"container/heap"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/dispatch/fleet"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// CallLane is where anonymous calls wait.
const CallLane = jobs.LaneInteractive

// callTimeouts ends anonymous calls that no host takes in time. Hosts request no more jobs than they have free slots, so a call
// that waits for one is in the stream and nowhere else. If this dispatcher goes, the leader ends
// the call at its deadline (deadlines.go).
type callTimeouts struct {
	mu    sync.Mutex
	calls waitingCalls
	woken chan struct{} // capacity 1: the earliest has changed
	taken uint64        // the lane has come to this sequence; of the loop
}

// Timeouts ends anonymous jobs that no host has taken by their time.
type Timeouts struct {
	broker *stream.Access
	hosts  *fleet.Fleet
	log    *slog.Logger
	ender  *ender
	calls  callTimeouts
}

// NewTimeouts watches over no job yet.
func NewTimeouts(broker *stream.Access, hosts *fleet.Fleet, log *slog.Logger) *Timeouts {
	return &Timeouts{broker: broker, hosts: hosts, log: log, ender: &ender{broker, log}, calls: callTimeouts{woken: make(chan struct{}, 1)}}
}

// waitingCall is an anonymous call that was accepted here.
type waitingCall struct {
	sequence uint64
	patience time.Duration
	due      time.Time
	dies     bool // its own deadline comes before the wait for a slot is over
}

// waitingCalls is a heap: the one that is due first is the first.
type waitingCalls []waitingCall

func (w waitingCalls) Len() int           { return len(w) }
func (w waitingCalls) Less(i, j int) bool { return w[i].due.Before(w[j].due) }
func (w waitingCalls) Swap(i, j int)      { w[i], w[j] = w[j], w[i] }
func (w *waitingCalls) Push(x any)        { *w = append(*w, x.(waitingCall)) }
func (w *waitingCalls) Pop() any {
	last := len(*w) - 1
	c := (*w)[last]
	*w = (*w)[:last]
	return c
}

const (
	mostTimedCalls = 100_000 // calls under watch; those beyond are answered when they are taken
	endingAtOnce   = 64      // calls that are ended at a time
	dueTogether    = 10 * time.Millisecond
)

// Expect looks after an anonymous call; deadline is its own, 0 if it has none.
func (t *Timeouts) Expect(sequence uint64, deadline time.Duration) {
	c := waitingCall{sequence: sequence, patience: t.hosts.CheckoutTimeout()}
	if deadline > 0 && deadline < c.patience {
		c.patience, c.dies = deadline, true
	}
	c.due = time.Now().Add(c.patience)
	i := &t.calls
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.calls) >= mostTimedCalls {
		return
	}
	heap.Push(&i.calls, c)
	if i.calls[0].sequence == sequence {
		select {
		case i.woken <- struct{}{}:
		default:
		}
	}
}

// FollowCalls ends calls when they are due, until ctx ends.
func (t *Timeouts) FollowCalls(ctx context.Context) {
	for {
		due, next := t.calls.take(time.Now())
		if len(due) > 0 {
			t.giveUp(ctx, due)
			continue
		}
		timer := time.NewTimer(max(next, dueTogether))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-t.calls.woken:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// take removes the calls that are due and reports how long it is until the next one is.
func (i *callTimeouts) take(now time.Time) (due []waitingCall, next time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for len(i.calls) > 0 && !i.calls[0].due.After(now) {
		due = append(due, heap.Pop(&i.calls).(waitingCall))
	}
	if len(i.calls) == 0 {
		return due, time.Hour // until it is woken
	}
	return due, i.calls[0].due.Sub(now)
}

// giveUp ends those of the calls that no host has been given. After an error they are answered when they are taken.
func (t *Timeouts) giveUp(ctx context.Context, due []waitingCall) {
	last := due[0].sequence
	for _, call := range due {
		last = max(last, call.sequence)
	}
	if last <= t.calls.taken {
		return // as nearly always: the lane is queried once in a checkout timeout
	}
	ctx, cancel := context.WithTimeout(ctx, stream.AckTimeout)
	defer cancel()
	p, _, err := t.broker.Progress(ctx, CallLane)
	if err != nil {
		t.log.Warn("calls_wait_on", "calls", len(due), "error", err)
		return
	}
	t.calls.taken = p.Delivered
	hosts := len(t.hosts.Live())
	slots := make(chan struct{}, endingAtOnce)
	var ending sync.WaitGroup
	defer ending.Wait()
	for _, call := range due {
		if call.sequence <= t.calls.taken {
			continue
		}
		slots <- struct{}{}
		ending.Go(func() { defer func() { <-slots }(); t.endCall(ctx, call, hosts) })
	}
}

func (t *Timeouts) endCall(ctx context.Context, call waitingCall, hosts int) {
	m, err := t.broker.Reads.Sequence(ctx, t.broker.NC, stream.Anonymous, call.sequence)
	if err != nil {
		return // it has ended
	}
	switch {
	case call.dies:
		t.ender.endQueued(ctx, m, 0, jobs.Expired, jobs.DeadlinePassed("a worker"))
	case hosts == 0:
		t.ender.endQueued(ctx, m, 0, jobs.Failed, fleet.NoHost())
	default:
		t.ender.endQueued(ctx, m, 0, jobs.Failed, jobs.NoWorkerFree(call.patience))
	}
}
