package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
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
