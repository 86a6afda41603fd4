package stream

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	mostTogether = 32               // keys of one request: as many as reads of single ones may be under way
	copyFresh    = 10 * time.Second // what is known about the copies of a bucket counts for as long
	copyTimeout  = time.Second
)

// together is a number of goroutines that read a bucket at the same time. Where the broker has one copy of it, one request reads for all of
// them: a direct get of the only copy sees every write that was acknowledged before. Where there are replicas it may not, and each
// goroutine asks the leader for its own key.
type together struct {
	mu      sync.Mutex
	waiting []asker
	reading bool

	copies  atomic.Pointer[copies]
	looking atomic.Bool
}

// copies is what was found out about the copies of a bucket.
type copies struct {
	one        bool // there is one, and it may be read directly
	looked     time.Time
	reconnects uint64 // of the connection
}

// asker waits for the value of a key.
type asker struct {
	key  string
	told chan told
}

type told struct {
	entry Entry
	err   error
}

// GetTogether is Get for keys that many read at a time. A key that is there is never replaced, as those of outcomes are not.
func (b *Bucket) GetTogether(ctx context.Context, key string) (Entry, error) {
	if !b.oneCopy(ctx) {
		return b.Get(ctx, key)
	}
	me := asker{key, make(chan told, 1)}
	b.together.mu.Lock()
	b.together.waiting = append(b.together.waiting, me)
	if !b.together.reading {
		b.together.reading = true
		go b.readForAll()
	}
	b.together.mu.Unlock()
	select {
	case t := <-me.told:
		return t.entry, t.err
	case <-ctx.Done():
		return Entry{}, fmt.Errorf("read %s: %w", key, ctx.Err())
	}
}

// readForAll reads until nobody waits. Who comes during a request is in the next one.
func (b *Bucket) readForAll() {
	for {
		b.together.mu.Lock()
		all := b.together.waiting
		some := all[:min(len(all), mostTogether)]
		b.together.waiting = append([]asker(nil), all[len(some):]...)
		if len(some) == 0 {
			b.together.reading = false
			b.together.mu.Unlock()
			return
		}
		b.together.mu.Unlock()
		b.tell(some)
	}
}

func (b *Bucket) tell(some []asker) {
	keys := make([]string, len(some))
	for i, a := range some {
		keys[i] = a.key
	}
	found := make(map[string]Entry, len(some))
	ctx, cancel := context.WithTimeout(context.Background(), getTimeout)
	defer cancel()
	err := b.Many(ctx, keys, func(key string, e Entry) { found[key] = e })
	for _, a := range some {
		if err != nil {
			a.told <- told{err: fmt.Errorf("read %s: %w", a.key, err)}
			continue
		}
		a.told <- told{entry: found[a.key]}
	}
}

// oneCopy reports whether the broker has one copy of the bucket. A server that is none of a cluster cannot make another one before it was
// restarted. A broker whose rights are of an earlier release does not let hosts read directly. While somebody finds out it is not known.
func (b *Bucket) oneCopy(ctx context.Context) bool {
	n := b.nc.Stats().Reconnects
	c := b.together.copies.Load()
	if c != nil && n == c.reconnects && time.Since(c.looked) <= copyFresh {
		return c.one
	}
	if !b.together.looking.CompareAndSwap(false, true) {
		return false
	}
	defer b.together.looking.Store(false)
	known := c != nil && c.one && n == c.reconnects
	c = &copies{one: b.lookAtCopies(ctx, known), looked: time.Now(), reconnects: n}
	b.together.copies.Store(c)
	return c.one
}

// lookAtCopies asks the broker. known reports that a direct get was answered before.
func (b *Bucket) lookAtCopies(ctx context.Context, known bool) bool {
	ctx, cancel := context.WithTimeout(ctx, copyTimeout)
	defer cancel()
	js, err := jetstream.New(b.nc)
	if err != nil {
		return false
	}
	s, err := js.Stream(ctx, b.stream)
	if err != nil {
		return false
	}
	info := s.CachedInfo()
	if clustered := info.Cluster != nil && info.Cluster.Name != ""; clustered || info.Config.Replicas != 1 || !info.Config.AllowDirect {
		return false
	}
	return known || b.Many(ctx, []string{"none"}, func(string, Entry) {}) == nil
}
