package outcomes

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// overdue finds anonymous jobs whose deadline passes before any host takes them: no host has them, so the leader looks into
// the lanes that have fallen behind. It reads each waiting job's deadline once and keeps no more of it. What it has not come to
// by then, or was given back by a host, ends when it is taken.
type overdue struct {
	lane, subject string
	from          uint64 // those before were looked at
	due           waitingCalls
}

const (
	overdueLook    = time.Second // between looks
	overduePages   = 4           // of overdueRecords each in one look: 2,000 jobs a second and lane
	overdueRecords = 500
	overdueBytes   = 4 << 20
	mostOverdue    = 100_000 // deadlines in memory, of one lane
)

// FollowDeadlines is a task of the leader.
func (t *Timeouts) FollowDeadlines(ctx context.Context) {
	tick := time.NewTicker(overdueLook)
	defer tick.Stop()
	var lanes []*overdue
	for _, lane := range []string{jobs.LaneInteractive, jobs.LaneBatch} {
		for _, subject := range jobs.LaneSubjects(lane, t.broker.Accounts()) {
			lanes = append(lanes, &overdue{lane: lane, subject: subject})
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, o := range lanes {
			if err := t.lookOverdue(ctx, o); err != nil && ctx.Err() == nil {
				t.log.Debug("lane_not_looked_at", "lane", o.lane, "error", err)
			}
		}
	}
}

// lookOverdue looks at a lane once. The age in a job's message is translated into this machine's monotonic clock at once:
// no later step of the broker's clock ends a job that waits.
func (t *Timeouts) lookOverdue(ctx context.Context, o *overdue) error {
	ctx, cancel := context.WithTimeout(ctx, stream.AckTimeout)
	defer cancel()
	p, _, err := t.broker.Progress(ctx, o.lane)
	if err != nil {
		return err
	}
	taken := p.Delivered
	o.from = max(o.from, taken+1)
	if p.Pending == 0 {
		o.due = nil
		return nil
	}
	if err := t.broker.Clock.Confirm(ctx, t.broker.Clock.Mono()); err != nil {
		return err
	}
	for page := 0; page < overduePages && len(o.due) < mostOverdue; page++ {
		p := stream.Page{Stream: stream.Anonymous, Subject: o.subject, From: o.from, Messages: overdueRecords, Bytes: overdueBytes}
		next, err := stream.GetPage(ctx, t.broker.NC, p, func(m stream.Stored) error {
			o.from = m.Sequence + 1
			if deadline := t.deadlineOf(m); deadline > 0 {
				heap.Push(&o.due, waitingCall{sequence: m.Sequence, due: time.Now().Add(deadline - t.broker.Clock.Age(m.Time))})
			}
			return nil
		})
		if err != nil {
			return err
		}
		if next == 0 {
			break
		}
	}
	t.endDue(ctx, o, taken)
	return nil
}

// deadlineOf is how long after its storage the job ends; 0: never.
func (t *Timeouts) deadlineOf(m stream.Stored) time.Duration {
	_, env, bad := jobs.ParseStored(m.Subject, m.Header, m.Sequence, t.broker.Accounts())
	if bad != nil {
		return 0 // it fails when it is taken
	}
	req, bad := jobs.ParseRequest(env.Type, m.Data, t.broker.MaxPayload/2)
	if bad != nil {
		return 0
	}
	deadline := max(env.Deadline, req.Deadline)
	if deadline == 0 && env.Mode == jobs.ModeCall { // the dispatcher that accepted it may be gone
		deadline = req.Total(t.hosts.CheckoutTimeout())
	}
	return deadline
}

func (t *Timeouts) endDue(ctx context.Context, o *overdue, taken uint64) {
	now := time.Now()
	slots := make(chan struct{}, endingAtOnce)
	var ending sync.WaitGroup
	defer ending.Wait()
	for len(o.due) > 0 && !o.due[0].due.After(now) {
		call := heap.Pop(&o.due).(waitingCall)
		if call.sequence <= taken {
			continue
		}
		slots <- struct{}{}
		ending.Go(func() { defer func() { <-slots }(); t.endLate(ctx, call.sequence) })
	}
}

// endLate ends a job whose id the broker gave. A chosen id may have been submitted before, and that submit may wait or run:
// its outcome is not this one's to decide, so who waits only gets a reply.
func (t *Timeouts) endLate(ctx context.Context, sequence uint64) {
	m, err := t.broker.Reads.Sequence(ctx, t.broker.NC, stream.Anonymous, sequence)
	if err != nil {
		return // it has ended, or gets its reply when it is taken
	}
	_, env, _ := jobs.ParseStored(m.Subject, m.Header, m.Sequence, t.broker.Accounts())
	if !env.Chosen {
		t.ender.endQueued(ctx, m, 0, jobs.Expired, jobs.DeadlinePassed("a worker"))
		return
	}
	r := jobs.Reply{Job: env.Job, Err: jobs.OutcomePending("no worker has taken the job yet")}
	t.ender.send(env, 0, r.Append(nil))
}
