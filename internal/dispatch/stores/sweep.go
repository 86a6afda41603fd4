package stores

import (
	"context"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/batch"
	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// What is written with each job is too much to be watched as dspex_control is. So these buckets are read in pages, in the order of
// writing, a bounded page at a time: everything that stays is seen once, and who reads a value for a job judges it again.

// Bounds of a look: 512 values a second at most.
const (
	sweepMessages = 1024
	sweepBytes    = 1 << 20
	sweepTimeout  = 10 * time.Second
	recheckEach   = 5 // looks between two at those that are named
)

// swept is a bucket that is read in pages.
type swept struct {
	s          *Stores
	name       string
	from       *stream.Bucket
	ours       func(key string, value []byte) bool
	next       uint64 // sequence
	storeBegan time.Time
}

// Sweep reads the buckets of records, outcomes and batches for values that no component writes, until ctx ends.
func Sweep(ctx context.Context, s *Stores) {
	all := []*swept{
		{s: s, name: stream.Sessions, from: s.broker.Records, ours: jobs.OursInSessions},
		{s: s, name: stream.Results, from: s.broker.Results, ours: jobs.OursInResults},
		{s: s, name: stream.Batches, from: s.broker.Batches, ours: batch.Ours},
	}
	for n := range clock.AtOnceAndEvery(ctx, Pause) {
		for _, b := range all {
			bounded, cancel := context.WithTimeout(ctx, sweepTimeout)
			err := b.page(bounded)
			if err == nil && n%recheckEach == 0 {
				err = b.recheck(bounded)
			}
			cancel()
			if err != nil && ctx.Err() == nil {
				s.log.Debug("bucket_not_read", "bucket", b.name, "error", err)
			}
		}
	}
}

// page reads the next page: what is written again comes behind all that was there.
func (b *swept) page(ctx context.Context) error {
	if storeBegan := b.began(); !storeBegan.Equal(b.storeBegan) { // its numbers may begin again
		b.storeBegan, b.next = storeBegan, 0
	}
	_, err := b.from.Page(ctx, ">", stream.Page{From: b.next, Messages: sweepMessages, Bytes: sweepBytes}, func(key string, e stream.Entry) error {
		b.next = e.Revision + 1
		b.judge(key, e)
		return nil
	})
	return err
}

// recheck looks at those that are named: what goes away by itself leaves no mark.
func (b *swept) recheck(ctx context.Context) error {
	for _, key := range b.named() {
		e, err := b.from.Get(ctx, key)
		if err != nil {
			return err
		}
		b.judge(key, e)
	}
	return nil
}

func (b *swept) judge(key string, e stream.Entry) {
	value := e.Value
	if !e.Exists {
		value = nil
	} else if value == nil {
		value = []byte{}
	}
	b.s.Foreign(b.name, key, value, b.ours(key, value))
}

// named are the keys that are named.
func (b *swept) named() (keys []string) {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	for at := range b.s.foreign {
		if name, key, _ := strings.Cut(at, " "); name == b.name {
			keys = append(keys, key)
		}
	}
	return keys
}

// began is when the bucket was recreated, as far as is known.
func (b *swept) began() time.Time {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	return b.s.renewed["KV_"+b.name]
}
