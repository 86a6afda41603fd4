//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/batch"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
	"github.com/dspex/dspex/internal/wire"
	"github.com/dspex/dspex/test/bench/agent"
)

// Streams of the parts, with the settings of the jobs stream.
const (
	publishStream = "BENCH_PUBLISH" // nobody consumes it
	ackStream     = "BENCH_ACK"     // delivered, not acknowledged

	partBytes = 1 << 30 // that each may have: the broker reserves them on the disk
)

// writer carries out the parts that are writes, with the product's own means.
type writer struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	w        *stream.Writer
	replies  *replies
	acks     *replies // of the broker, to acknowledgements
	sessions *stream.Bucket
	results  *stream.Bucket
	batches  batches
	stored   stored
	heads    []uint64 // revisions by session
	records  []uint64
	created  int // results so far

	delivered chan string // acknowledgement subjects
	held      []string
}

func playWriter(ctx context.Context, url string) error {
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	w := &writer{nc: nc, stored: samples(), heads: make([]uint64, agent.Sessions), records: make([]uint64, agent.Sessions)}
	if err := w.prepare(ctx); err != nil {
		return err
	}
	defer w.w.Close()
	fmt.Println("ready")
	return agent.Obey(func(o order) (answer, error) { return w.do(ctx, o) })
}

// prepare makes the broker's objects as a dispatcher does, and every session's keys.
func (w *writer) prepare(ctx context.Context) (err error) {
	if w.js, err = jetstream.New(w.nc); err != nil {
		return err
	}
	if _, err := stream.Ensure(ctx, w.js, stream.Settings{Partitions: partitions}); err != nil {
		return err
	}
	s, err := w.js.Stream(ctx, stream.Jobs)
	if err != nil {
		return err
	}
	for _, name := range []string{publishStream, ackStream} {
		cfg := s.CachedInfo().Config
		t := *cfg.SubjectTransform
		t.Source = name + ".*"
		t.Destination = fmt.Sprintf("%s.p.{{partition(%d,1)}}.{{wildcard(1)}}", name, partitions)
		cfg.MaxBytes = partBytes
		cfg.Name, cfg.Subjects, cfg.SubjectTransform = name, []string{t.Source}, &t
		if _, err := w.js.CreateStream(ctx, cfg); err != nil {
			return err
		}
	}
	if w.w, err = stream.NewWriter(w.nc); err != nil {
		return err
	}
	if w.replies, err = newReplies(w.nc, false); err != nil {
		return err
	}
	if w.acks, err = newReplies(w.nc, true); err != nil {
		return err
	}
	w.sessions = stream.NewBucket(w.nc, w.w, stream.Sessions)
	w.results = stream.NewBucket(w.nc, w.w, stream.Results)
	w.batches = newBatches(stream.NewBucket(w.nc, w.w, stream.Batches), w.stored)
	if _, err := w.batches.bucket.PutSync(batch.ChunkKey(jobs.DefaultTenant, "read", 0), w.batches.chunk, 0, keptFor); err != nil {
		return err
	}
	w.delivered = make(chan string, ackCount)
	_, err = consume(ctx, w.js, ackStream, ackStream+".p.", func(m jetstream.Msg) { w.delivered <- m.Reply() })
	if err != nil {
		return err
	}
	for _, op := range []agent.Operation{w.head, w.record} {
		if _, err := agent.Window(order{Window: 500, Count: agent.Sessions}, op); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) do(ctx context.Context, o order) (answer, error) {
	switch o.Do {
	case "publish":
		return agent.Window(o, w.publish)
	case "head":
		return agent.Window(o, w.head)
	case "record":
		return agent.Window(o, w.record)
	case "create":
		a, err := agent.Window(o, w.create)
		w.created += a.Count + o.Window
		return a, err
	case "look":
		return agent.Window(o, func(lane, n int, done func(error)) { go func() { done(w.look(ctx, n)) }() })
	case "chunk":
		return agent.Window(o, w.chunk)
	case "open":
		return agent.Window(o, func(lane, n int, done func(error)) { go func() { done(w.open(ctx)) }() })
	case "keep":
		return agent.Window(o, w.keep)
	case "micro":
		return agent.Window(o, w.micro)
	case "round":
		return agent.Window(o, w.round)
	case "fill":
		return w.fill(o)
	case "ack":
		o.Count = len(w.held)
		a, err := agent.Window(o, w.ack)
		w.held = nil
		return a, err
	case "purge":
		return answer{Count: 1}, w.purge(ctx)
	case "clear":
		return answer{Count: 1}, w.clear(ctx)
	}
	return answer{}, fmt.Errorf("unknown order %q", o.Do)
}

// job is the message that a dispatcher publishes for a call.
func job(subject string, n int, reply string) *nats.Msg {
	return &nats.Msg{Subject: subject + agent.Session(n), Data: agent.CallBody, Header: nats.Header{
		jobs.HeaderMode: {string(jobs.ModeCall)}, jobs.HeaderReplyTo: {reply}, jobs.HeaderContentType: {jobs.JSON},
	}}
}

func (w *writer) publish(lane, n int, done func(error)) {
	w.w.Publish(job(publishStream+".", n, w.replies.prefix+"0"), func(_ stream.Ack, err error) { done(err) })
}

// head and record write keys of sessions that no other lane has: a lane's sessions are those with its remainder.
func (w *writer) head(lane, n int, done func(error)) {
	w.update("h.", w.heads, w.stored.head, n, done)
}

func (w *writer) record(lane, n int, done func(error)) {
	w.update("s.", w.records, w.stored.record, n, done)
}

func (w *writer) update(prefix string, revs []uint64, value []byte, n int, done func(error)) {
	n %= agent.Sessions
	w.sessions.Put(prefix+agent.Session(n), value, revs[n], 2*time.Hour, func(rev uint64, err error) {
		revs[n] = rev
		done(err)
	})
}

func (w *writer) create(lane, n int, done func(error)) {
	key := jobs.SessionRef{Tenant: jobs.DefaultTenant, ID: agent.Session(n)}.ResultKey("q" + strconv.Itoa(w.created+n))
	w.results.Put(key, w.stored.result, 0, 15*time.Minute, func(_ uint64, err error) { done(err) })
}

// look reads the outcome of an id that has none, as a host does before it runs a job whose id was chosen.
func (w *writer) look(ctx context.Context, n int) error {
	e, err := w.results.GetTogether(ctx, jobs.SessionRef{Tenant: jobs.DefaultTenant, ID: agent.Session(n)}.ResultKey("none"))
	if err == nil && e.Exists {
		err = errors.New("an id without an outcome has one")
	}
	return err
}

func (w *writer) micro(lane, n int, done func(error)) {
	w.replies.wait[lane] = func(m *nats.Msg) { done(failure(m)) }
	if err := w.nc.PublishRequest("bench.micro", w.replies.prefix+strconv.Itoa(lane), agent.CallBody); err != nil {
		done(err)
	}
}

func (w *writer) round(lane, n int, done func(error)) {
	w.replies.wait[lane] = func(m *nats.Msg) { done(failure(m)) }
	w.w.Publish(job("dspex.session.", n, w.replies.prefix+strconv.Itoa(lane)), func(_ stream.Ack, err error) {
		if err != nil {
			done(err)
		}
	})
}

// ack is the confirmed one, which has an end that can be waited for.
func (w *writer) ack(lane, n int, done func(error)) {
	w.acks.wait[lane] = func(m *nats.Msg) { done(failure(m)) }
	if err := w.nc.PublishRequest(w.held[n], w.acks.prefix+strconv.Itoa(lane), []byte("+ACK")); err != nil {
		done(err)
	}
}

// fill publishes o.Count messages and waits until all are delivered.
func (w *writer) fill(o order) (answer, error) {
	a, err := agent.Window(o, func(lane, n int, done func(error)) {
		w.w.Publish(job(ackStream+".", n, w.replies.prefix+"0"), func(_ stream.Ack, err error) { done(err) })
	})
	if err != nil {
		return a, err
	}
	late := time.After(orderTimeout / 2)
	for len(w.held) < o.Count {
		select {
		case reply := <-w.delivered:
			w.held = append(w.held, reply)
		case <-late:
			return a, errors.New("not everything was delivered")
		}
	}
	return a, nil
}

func (w *writer) purge(ctx context.Context) error {
	s, err := w.js.Stream(ctx, publishStream)
	if err != nil {
		return err
	}
	return s.Purge(ctx)
}

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
