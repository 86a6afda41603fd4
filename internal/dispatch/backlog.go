package dispatch

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// laneSession stands for the jobs of sessions among the lanes of the metrics.
const laneSession = "session"

// laneBacklog are the jobs of a lane that have no outcome.
type laneBacklog struct {
	jobs   int64
	oldest time.Duration // age of the oldest
}

// backlogs keep what was read a moment ago: several scrapers cost the broker no more than one.
type backlogs struct {
	mu   sync.Mutex
	read time.Time
	of   map[string]laneBacklog
}

const (
	backlogFresh = time.Second
	backlogWait  = 2 * time.Second
)

// backlog reads the jobs without outcome by lane; nil if the broker does not tell.
func (d *Dispatcher) backlog() map[string]laneBacklog {
	b := &d.backlogs
	b.mu.Lock()
	defer b.mu.Unlock()
	if d.broker.JS == nil || time.Since(b.read) < backlogFresh {
		return b.of
	}
	ctx, cancel := context.WithTimeout(context.Background(), backlogWait)
	defer cancel()
	of, err := d.readBacklog(ctx)
	if err != nil {
		d.log.Debug("backlog_not_read", "error", err)
		of = nil
	}
	b.read, b.of = time.Now(), of
	return of
}

func (d *Dispatcher) readBacklog(ctx context.Context) (map[string]laneBacklog, error) {
	accounts := d.broker.Accounts()
	of := map[string]laneBacklog{}
	waiting, _, err := d.broker.Count(ctx, stream.Jobs)
	if err != nil {
		return nil, err
	}
	n := int64(waiting)
	for _, anchors := range anchored(ctx, d.broker) {
		n -= int64(anchors)
	}
	first, err := d.oldest(ctx, stream.Jobs, "dspex.*.*.*", "dspex.*.*.*.*.*")
	if err != nil {
		return nil, err
	}
	of[laneSession] = laneBacklog{n, first}
	have, err := d.broker.Messages(ctx, stream.Anonymous, ">")
	if err != nil {
		return nil, err
	}
	for _, lane := range []string{jobs.LaneInteractive, jobs.LaneBatch} {
		l := laneBacklog{}
		for subject, count := range have {
			if jobs.SourceOf(subject).Lane == lane {
				l.jobs += int64(count)
			}
		}
		if l.oldest, err = d.oldest(ctx, stream.Anonymous, jobs.LaneSubjects(lane, accounts)...); err != nil {
			return nil, err
		}
		of[lane] = l
	}
	return of, nil
}

// anchored are the anchors of the jobs' stream, which are no jobs.
func anchored(ctx context.Context, broker *stream.Access) map[string]uint64 {
	anchors, err := broker.Messages(ctx, stream.Jobs, stream.AnchorSubject)
	if err != nil {
		return nil
	}
	return anchors
}

// oldest is the age of the oldest message under the subjects, 0 if there is none.
func (d *Dispatcher) oldest(ctx context.Context, name string, subjects ...string) (age time.Duration, err error) {
	for _, subject := range subjects {
		m, err := stream.GetNext(ctx, d.broker.NC, name, subject, 1)
		switch {
		case errors.Is(err, stream.ErrNotFound):
		case err != nil:
			return 0, err
		default:
			age = max(age, d.broker.Clock.Age(m.Time))
		}
	}
	return age, nil
}
