package sessions

import (
	"context"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/stream"
)

// lostRecords is a host's view of the bucket of records itself. If that was lost and recreated, a session without a record
// need not be a new one.
type lostRecords struct {
	on       *stream.Access
	lifetime time.Duration // of a record after a write, at least

	mu      sync.Mutex
	looked  time.Time // local clock
	renewed time.Time // broker's clock: the present bucket was made in place of a lost one; zero: it is the first
}

// lookLifetime is how long a look at the bucket counts. It is less than a bucket is missing before anybody makes it again.
const lookLifetime = stream.LossPause * 4 / 5

// forgot reports whether a session that has no record may have had one that was lost with its bucket: for as long as it could
// have lived. It cannot be distinguished from a new one.
func (l *lostRecords) forgot(ctx context.Context) (bool, error) {
	renewed, err := l.look(ctx)
	return !renewed.IsZero() && l.on.Clock.Age(renewed) < l.lifetime, err
}

// look reports when the bucket was recreated.
func (l *lostRecords) look(ctx context.Context) (time.Time, error) {
	l.mu.Lock()
	now, renewed, fresh := time.Now(), l.renewed, !l.looked.IsZero() && time.Since(l.looked) <= lookLifetime
	l.mu.Unlock()
	if fresh {
		return renewed, nil
	}
	renewed, err := l.on.RecordsRenewed(ctx)
	if err != nil {
		return time.Time{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.After(l.looked) {
		l.looked, l.renewed = now, renewed
	}
	return renewed, nil
}
