package host

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/stream"
)

// memory is what a host knows of the bucket of records itself. If that was lost and made again, a session without a record
// need not be a new one.
type memory struct {
	mu      sync.Mutex
	looked  time.Time // local clock
	renewed time.Time // broker's clock: the present bucket was made in place of a lost one; zero: it is the first
}

// memoryLife is how long a look at the bucket counts. It is less than a bucket is missing before anybody makes it again.
const memoryLife = stream.LossPause * 4 / 5

// forgot reports whether a session that has no record may have had one that was lost with its bucket: for as long as it could
// have lived. Nobody can tell it from a new one.
func (h *Host) forgot(ctx context.Context) (bool, error) {
	renewed, err := h.memory.look(ctx, h.js)
	return !renewed.IsZero() && h.clock.Age(renewed) < h.recordLife(), err
}

// recordLife is how long a record lives after a write, at least.
func (h *Host) recordLife() time.Duration { return h.cfg.SessionIdle + time.Hour }

// look says when the bucket was made again.
func (m *memory) look(ctx context.Context, js jetstream.JetStream) (time.Time, error) {
	m.mu.Lock()
	now, renewed, fresh := time.Now(), m.renewed, !m.looked.IsZero() && time.Since(m.looked) <= memoryLife
	m.mu.Unlock()
	if fresh {
		return renewed, nil
	}
	s, err := js.Stream(ctx, stream.RecordsStream)
	if err != nil {
		return time.Time{}, fmt.Errorf("stream %s: %w", stream.RecordsStream, err)
	}
	renewed = time.Time{}
	if info := s.CachedInfo(); info.Config.FirstSeq > 1 {
		renewed = info.Created
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if now.After(m.looked) {
		m.looked, m.renewed = now, renewed
	}
	return renewed, nil
}
