//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dspex/dspex/internal/batch"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
	"github.com/dspex/dspex/internal/wire"
	"github.com/dspex/dspex/test/bench/agent"
)

// batches carries out the parts that only jobs of batches have, for as many jobs together as a batch has.
type batches struct {
	bucket        *stream.Bucket
	chunk, part   []byte
	chunks, parts *atomic.Int64 // that were stored
}

// keptFor is the lifetime that a batch's jobs and outcomes have.
const keptFor = 100 * 24 * time.Hour

func newBatches(bucket *stream.Bucket, s stored) batches {
	chunk, part := &batch.Chunk{}, &batch.Part{}
	for n := range batch.MaxChunk {
		body := wire.AppendStr(wire.AppendStr(wire.AppendMap(nil, 2), "command"), "echo")
		body = wire.AppendStr(wire.AppendStr(wire.AppendMap(wire.AppendStr(body, "args"), 1), "text"), fmt.Sprint("row ", n))
		line := batch.Line{Body: body}
		if n%2 == 0 {
			line.Session = agent.Session(n)
		}
		chunk.Lines = append(chunk.Lines, line)
		part.Outcomes = append(part.Outcomes, batch.Outcome{Index: n, Kind: jobs.Succeeded, Attempts: 1, Reply: s.reply})
	}
	return batches{bucket, chunk.Append(nil), part.Append(nil), new(atomic.Int64), new(atomic.Int64)}
}

func (w *writer) chunk(lane, n int, done func(error)) {
	b := w.batches
	key := batch.ChunkKey(jobs.DefaultTenant, "bench", int(b.chunks.Add(1)))
	b.bucket.Put(key, b.chunk, 0, keptFor, func(_ uint64, err error) { done(err) })
}

func (w *writer) keep(lane, n int, done func(error)) {
	b := w.batches
	key := batch.PartKey(jobs.DefaultTenant, "bench", int(b.parts.Add(1)), 0)
	b.bucket.Put(key, b.part, 0, keptFor, func(_ uint64, err error) { done(err) })
}

// clear makes room for the next round.
func (w *writer) clear(ctx context.Context) error {
	for _, keys := range batch.OwnKeys(jobs.DefaultTenant, "bench") {
		if err := w.batches.bucket.Remove(ctx, keys); err != nil {
			return err
		}
	}
	return nil
}

// open reads jobs as a leader does.
func (w *writer) open(ctx context.Context) error {
	e, err := w.batches.bucket.Get(ctx, batch.ChunkKey(jobs.DefaultTenant, "read", 0))
	if err == nil && !e.Exists {
		err = errors.New("the jobs are not there")
	}
	if err == nil {
		_, err = batch.ParseChunk(e.Value)
	}
	return err
}
