package leader

import (
	"context"
	"time"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/stream"
)

// Times of the lease, on monotonic clocks.
const (
	lifetime = 10 * time.Second // a holder that wrote nothing for so long may be replaced
	renewal  = 2 * time.Second
)

// Bucket is what the lease needs of the bucket dspex_control.
type Bucket interface {
	Get(ctx context.Context, key string) (stream.Entry, error)
	PutSync(key string, value []byte, revision uint64, ttl time.Duration) (uint64, error)
}

// lease is one dispatcher's view of the key that names the leader.
type lease struct {
	bucket   Bucket
	name     string
	holds    bool
	revision uint64
	renewed  time.Time
	seen     uint64 // last revision of another holder
	since    time.Time
}

// hold renews the lease, or takes it when its holder has not written for a whole lifetime.
func (l *lease) hold(ctx context.Context) error {
	now := time.Now()
	if l.holds && now.Sub(l.renewed) < renewal {
		return nil
	}
	if !l.holds {
		e, err := l.bucket.Get(ctx, control.LeaderKey)
		if err != nil {
			return err
		}
		if e.Exists && len(e.Value) > 0 {
			if e.Revision != l.seen {
				l.seen, l.since = e.Revision, now
				return nil
			}
			if now.Sub(l.since) < lifetime {
				return nil
			}
		}
		l.revision = e.Revision
	}
	revision, err := l.bucket.PutSync(control.LeaderKey, []byte(l.name), l.revision, 0)
	if err != nil {
		l.holds, l.seen, l.since = false, 0, now
		return err
	}
	l.holds, l.revision, l.renewed = true, revision, now
	return nil
}

// free lets the next dispatcher take the lease at once.
func (l *lease) free() {
	if l.holds {
		_, _ = l.bucket.PutSync(control.LeaderKey, nil, l.revision, 0)
	}
}
