package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Entry is one key's last value, read from the stream's leader.
type Entry struct {
	Value    []byte
	Revision uint64 // also set when the key is absent behind a marker: the next write must expect it
	Stored   time.Time
	Exists   bool
}

// Bucket reads and writes one KV bucket. Reads go to the stream's leader: a direct get may be behind the write that decides.
type Bucket struct {
	nc     *nats.Conn
	w      *Writer
	reads  *Reads
	stream string
	prefix string

	together together
}

// NewBucket names a bucket that Ensure made.
func NewBucket(nc *nats.Conn, w *Writer, name string) *Bucket {
	return &Bucket{nc: nc, w: w, stream: "KV_" + name, prefix: "$KV." + name + "."}
}

// Within has the bucket's reads bounded, together with all others that share the bound.
func (b *Bucket) Within(r *Reads) *Bucket {
	b.reads = r
	return b
}

// Subject is the subject of a key: whoever listens there sees each attempt to write it.
func (b *Bucket) Subject(key string) string { return b.prefix + key }

// Get reads a key's last value.
func (b *Bucket) Get(ctx context.Context, key string) (Entry, error) {
	m, err := b.reads.Last(ctx, b.nc, b.stream, b.prefix+key)
	if errors.Is(err, ErrNotFound) {
		return Entry{}, nil
	}
	if err != nil {
		return Entry{}, fmt.Errorf("read %s: %w", key, err)
	}
	e := Entry{Value: m.Data, Revision: m.Sequence, Stored: m.Time, Exists: true}
	if m.Deleted() {
		e.Exists, e.Value = false, nil
	}
	return e, nil
}

// Delete marks key as deleted if its last revision is rev, and returns the marker's revision.
func (b *Bucket) Delete(key string, rev uint64) (uint64, error) {
	a, err := b.w.PublishSync(&nats.Msg{Subject: b.prefix + key, Header: nats.Header{
		"KV-Operation": {"DEL"}, "Nats-Expected-Last-Subject-Sequence": {strconv.FormatUint(rev, 10)},
	}})
	return a.Sequence, err
}

// Page reads the entries of the keys that match filter, as GetPage does; each also gets deleted ones.
func (b *Bucket) Page(ctx context.Context, filter string, p Page, each func(key string, e Entry) error) (next uint64, err error) {
	p.Stream, p.Subject = b.stream, b.prefix+filter
	return b.reads.Page(ctx, b.nc, p, func(m Stored) error {
		return each(strings.TrimPrefix(m.Subject, b.prefix), Entry{Value: m.Data, Revision: m.Sequence, Stored: m.Time, Exists: !m.Deleted()})
	})
}

// Put writes key if its last revision is rev (0: it never existed) and calls done with the new revision. A ttl of zero
// keeps the value for ever; every write with a ttl renews it.
func (b *Bucket) Put(key string, value []byte, rev uint64, ttl time.Duration, done func(rev uint64, err error)) {
	m := &nats.Msg{Subject: b.prefix + key, Data: value, Header: nats.Header{
		"Nats-Expected-Last-Subject-Sequence": {strconv.FormatUint(rev, 10)},
	}}
	if ttl > 0 {
		m.Header["Nats-TTL"] = []string{strconv.FormatInt(int64((ttl+time.Second-1)/time.Second), 10) + "s"}
	}
	b.w.Publish(m, func(a Ack, err error) { done(a.Sequence, err) })
}

// PutSync is Put that waits.
func (b *Bucket) PutSync(key string, value []byte, rev uint64, ttl time.Duration) (uint64, error) {
	type answer struct {
		rev uint64
		err error
	}
	c := make(chan answer, 1)
	b.Put(key, value, rev, ttl, func(r uint64, err error) { c <- answer{r, err} })
	r := <-c
	return r.rev, r.err
}

// Many reads the last values of keys, at most 1,024 of them, by one direct get. What is not there is left out; on a replicated stream so may be
// what was written a moment ago.
func (b *Bucket) Many(ctx context.Context, keys []string, each func(key string, e Entry)) error {
	if len(keys) == 0 {
		return nil
	}
	subjects := make([]string, len(keys))
	for i, key := range keys {
		subjects[i] = b.prefix + key
	}
	return getMany(ctx, b.nc, b.stream, subjects, func(m Stored) {
		if !m.Deleted() {
			each(strings.TrimPrefix(m.Subject, b.prefix), Entry{Value: m.Data, Revision: m.Sequence, Stored: m.Time, Exists: true})
		}
	})
}

// Remove removes all keys that match filter, without a trace: they are as if they had never been.
func (b *Bucket) Remove(ctx context.Context, filter string) error {
	ctx, cancel := context.WithTimeout(ctx, getTimeout)
	defer cancel()
	body, err := json.Marshal(map[string]string{"filter": b.prefix + filter})
	if err != nil {
		return err
	}
	m, err := b.nc.RequestWithContext(ctx, "$JS.API.STREAM.PURGE."+b.stream, body)
	if err != nil {
		return fmt.Errorf("remove %s: %w", filter, err)
	}
	var r struct {
		Success bool                `json:"success"`
		Error   *jetstream.APIError `json:"error"`
	}
	switch err := json.Unmarshal(m.Data, &r); {
	case err != nil:
		return fmt.Errorf("remove %s: the broker's answer is not JSON: %w", filter, err)
	case r.Error != nil:
		return fmt.Errorf("remove %s: %w", filter, r.Error)
	case !r.Success:
		return fmt.Errorf("remove %s: the broker did not", filter)
	}
	return nil
}

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
	waiting []waiter
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

// waiter waits for the value of a key.
type waiter struct {
	key    string
	answer chan answer
}

// answer is what a waiter waits for: the value, or first that it is its turn to read for those who wait.
type answer struct {
	turn  bool
	entry Entry
	err   error
}

// GetTogether is Get for keys that many read at a time, with contexts that end together. A key that is there is never replaced, as those of
// outcomes are not.
func (b *Bucket) GetTogether(ctx context.Context, key string) (Entry, error) {
	if !b.oneCopy(ctx) {
		return b.Get(ctx, key)
	}
	me := waiter{key, make(chan answer, 1)}
	if b.together.join(me) {
		b.readForSome(ctx)
	}
	got := <-me.answer
	for got.turn {
		b.readForSome(ctx)
		got = <-me.answer
	}
	return got.entry, got.err
}

// join reports whether it is the waiter's turn at once.
func (t *together) join(me waiter) (turn bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting = append(t.waiting, me)
	turn, t.reading = !t.reading, true
	return turn
}

// readForSome reads for those who have waited longest, the caller among them. Who comes meanwhile waits for the next turn.
func (b *Bucket) readForSome(ctx context.Context) {
	t := &b.together
	t.mu.Lock()
	some := t.waiting[:min(len(t.waiting), mostTogether)]
	t.waiting = append([]waiter(nil), t.waiting[len(some):]...)
	t.mu.Unlock()
	found, err := b.readAll(ctx, some)
	t.mu.Lock()
	if err != nil { // they would get the same answer one after the other
		some, t.waiting = append(some, t.waiting...), nil
	}
	if t.reading = len(t.waiting) > 0; t.reading {
		t.waiting[0].answer <- answer{turn: true}
	}
	t.mu.Unlock()
	for _, a := range some {
		a.answer <- answer{entry: found[a.key], err: err}
	}
}

func (b *Bucket) readAll(ctx context.Context, some []waiter) (map[string]Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, getTimeout)
	defer cancel()
	keys := make([]string, len(some))
	for i, a := range some {
		keys[i] = a.key
	}
	found := make(map[string]Entry, len(some))
	if err := b.Many(ctx, keys, func(key string, e Entry) { found[key] = e }); err != nil {
		return nil, fmt.Errorf("read %s and %d others: %w", keys[0], len(keys)-1, err)
	}
	return found, nil
}

// oneCopy reports whether the broker has one copy of the bucket. A server that is none of a cluster cannot make another one before it was
// restarted. A broker whose permissions are of an earlier release does not let hosts read directly. While somebody finds out it is not known.
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

// lookAtCopies queries the broker. known reports that a direct get was answered before.
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
