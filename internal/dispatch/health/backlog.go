package health

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// laneSession stands for the jobs of sessions among the lanes of the metrics.
const laneSession = "session"

// laneBacklog are the jobs of a lane that have no outcome.
type laneBacklog struct {
	Jobs   int64
	Oldest time.Duration // age of the oldest
}

// Backlogs keep what was read a moment ago: several scrapers cost the broker no more than one.
type Backlogs struct {
	broker *stream.Access
	log    *slog.Logger

	mu   sync.Mutex
	read time.Time
	of   map[string]laneBacklog
}

// NewBacklogs reads those of a broker.
func NewBacklogs(broker *stream.Access, log *slog.Logger) *Backlogs {
	return &Backlogs{broker: broker, log: log}
}

const (
	backlogFresh = time.Second
	backlogWait  = 2 * time.Second
)

// ByLane reads the jobs without outcome by lane; nil if the broker does not answer.
func (b *Backlogs) ByLane() map[string]laneBacklog {
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Since(b.read) < backlogFresh {
		return b.of
	}
	ctx, cancel := context.WithTimeout(context.Background(), backlogWait)
	defer cancel()
	of, err := b.readBacklog(ctx)
	if err != nil {
		b.log.Debug("backlog_not_read", "error", err)
		of = nil
	}
	b.read, b.of = time.Now(), of
	return of
}

func (b *Backlogs) readBacklog(ctx context.Context) (map[string]laneBacklog, error) {
	accounts := b.broker.Accounts()
	of := map[string]laneBacklog{}
	waiting, _, err := b.broker.Count(ctx, stream.Jobs)
	if err != nil {
		return nil, err
	}
	n := int64(waiting)
	for _, anchors := range anchored(ctx, b.broker) {
		n -= int64(anchors)
	}
	first, err := b.oldest(ctx, stream.Jobs, contract.SubjectStored+"*", contract.SubjectStored+"*.*.*")
	if err != nil {
		return nil, err
	}
	of[laneSession] = laneBacklog{n, first}
	have, err := b.broker.Messages(ctx, stream.Anonymous, ">")
	if err != nil {
		return nil, err
	}
	for _, lane := range []string{jobs.LaneInteractive, jobs.LaneBatch} {
		l := laneBacklog{}
		for subject, count := range have {
			if jobs.SourceOf(subject).Lane == lane {
				l.Jobs += int64(count)
			}
		}
		if l.Oldest, err = b.oldest(ctx, stream.Anonymous, jobs.LaneSubjects(lane, accounts)...); err != nil {
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

// Oldest is the age of the oldest message under the subjects, 0 if there is none.
func (b *Backlogs) oldest(ctx context.Context, name string, subjects ...string) (age time.Duration, err error) {
	for _, subject := range subjects {
		m, err := stream.GetNext(ctx, b.broker.NC, name, subject, 1)
		switch {
		case errors.Is(err, stream.ErrNotFound):
		case err != nil:
			return 0, err
		default:
			age = max(age, b.broker.Clock.Age(m.Time))
		}
	}
	return age, nil
}
