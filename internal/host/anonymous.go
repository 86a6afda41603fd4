package host

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

const (
	anonymousAckWait = 20 * time.Second
	anonymousAlive   = 5 * time.Second // InProgress while an attempt runs
	anonymousExpiry  = time.Second     // of one pull: a slot that comes free is asked for within it
)

// anonymous pulls a lane's jobs for as many slots as are free.
func (h *Host) anonymous(ctx context.Context, lane string) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for ctx.Err() == nil {
		cons, err := h.js.CreateOrUpdateConsumer(ctx, stream.Anonymous, jetstream.ConsumerConfig{
			Durable: lane, FilterSubject: jobs.SubjectAnonymous + lane, AckPolicy: jetstream.AckExplicitPolicy,
			AckWait: anonymousAckWait, MaxDeliver: -1, MaxAckPending: stream.MaxAckPending,
		})
		if err != nil {
			h.log.Warn("lane_unavailable", "lane", lane, "error", err)
			wait(ctx, nil, brokerPause)
			continue
		}
		h.pull(ctx, cons, lane, &wg)
	}
}

// pull fetches until something is wrong with the consumer.
func (h *Host) pull(ctx context.Context, cons jetstream.Consumer, lane string, wg *sync.WaitGroup) {
	for ctx.Err() == nil {
		free := h.cfg.Pool.Free()
		if h.full.Load() > 0 {
			free = 0 // nothing is run that could not be stored
		}
		if lane == jobs.LaneBatch {
			free-- // one slot stays for interactive work
		}
		if free < 1 {
			wait(ctx, nil, 20*time.Millisecond)
			continue
		}
		batch, err := cons.Fetch(free, jetstream.FetchMaxWait(anonymousExpiry))
		if err != nil {
			wait(ctx, nil, brokerPause)
			return
		}
		for m := range batch.Messages() {
			wg.Go(func() { h.runAnonymous(m) })
		}
		if err := batch.Error(); err != nil && !errors.Is(err, jetstream.ErrNoMessages) && ctx.Err() == nil {
			wait(ctx, nil, brokerPause)
			return
		}
	}
}

// runAnonymous brings one delivery to its outcome, or to its next attempt.
func (h *Host) runAnonymous(m jetstream.Msg) {
	meta, err := m.Metadata()
	if err != nil {
		return
	}
	ctx, cancel := context.WithCancelCause(h.work)
	defer cancel(nil)
	j := &job{seq: meta.Sequence.Stream, stored: meta.Timestamp, reply: m.Reply(), data: m.Data(), size: len(m.Data())}
	j.env, j.bad = jobs.ParseHeaders(m.Headers(), j.seq)
	t := &task{job: j}
	bad := t.read(h, j.data)
	t.attempt = int(meta.NumDelivered) - 1
	if t.env.Chosen || meta.NumDelivered > 1 {
		e, err := h.results.Get(ctx, jobs.AnonymousResultKey(t.env.Job))
		if err != nil {
			return // AckWait brings it again
		}
		if r, err := jobs.ParseResult(e.Value); e.Exists && err == nil {
			body := r.Body
			if r.Hash != t.req.Hash {
				body = conflict("", h.cfg.Name, t.env.Job)
			}
			h.send(t.env.ReplyTo, t.env.Type, t.env.Job, r.Attempt, body)
			_ = m.Ack()
			return
		}
	}
	left, has := t.left(h.now())
	switch {
	case bad != nil:
		h.settleAnonymous(ctx, t, bad, &output{})
		return
	case has && left <= 0:
		h.settleAnonymous(ctx, t, expired(), &output{})
		return
	case t.attempt > 0 && t.exhausted():
		h.settleAnonymous(ctx, t, crashed(t.attempt), &output{})
		return
	}
	go keepAlive(ctx, m)
	defer h.runs.enter(t.env.Job, cancel)()
	h.attemptAnonymous(ctx, t)
}

func keepAlive(ctx context.Context, m jetstream.Msg) {
	t := time.NewTicker(anonymousAlive)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			_ = m.InProgress()
		}
	}
}

func (h *Host) attemptAnonymous(ctx context.Context, t *task) {
	slot, e, err := h.checkout(ctx, t, 0, 0)
	if errors.Is(err, errCancelled) {
		e, err = cancelled(), nil
	}
	if err != nil {
		_ = h.nak(t.job, 0) // the host stops: another one takes it
		return
	}
	if e != nil {
		h.settleAnonymous(ctx, t, e, &output{})
		return
	}
	t.attempt++
	out := &output{worker: slot.WorkerName(), engine: slot.Engine()}
	call := frame.CallBody{}
	out.err = t.needsState(0)
	if out.err == nil {
		out.err = h.equip(t, slot, nil, &call)
	}
	if out.err == nil {
		h.call(ctx, t, slot, call, out)
	}
	slot.Release()
	if h.work.Err() != nil {
		return
	}
	if out.err == nil && out.choseLM && out.lm != nil {
		out.err = h.publishDefaultLM(ctx, out.lm)
	}
	if out.err != nil {
		left, has := t.left(h.now())
		if v := jobs.Settle(out.err, t.attempt, t.req.Policy, left, has, nil); v.Action == jobs.Retry {
			_ = h.nak(t.job, v.Delay)
			return
		}
	}
	h.settleAnonymous(ctx, t, out.err, out)
}

// settleAnonymous stores the outcome (the first one wins), answers and acknowledges.
func (h *Host) settleAnonymous(ctx context.Context, t *task, e *jobs.Error, out *output) {
	h.count(out.ran, e)
	reply := jobs.Reply{Job: t.env.Job, Attempt: t.attempt, Host: h.cfg.Name, Worker: out.worker, Engine: out.engine,
		Queued: h.now().Sub(t.stored) - out.ran, Run: out.ran, Usage: out.usage, Err: e, Result: out.value}
	r := &jobs.Result{Job: t.env.Job, Sequence: t.seq, Attempt: t.attempt, Hash: t.req.Hash, Kind: kindOf(e), Body: reply.Append(nil), Stored: h.now()}
	won, err := h.firstResult(h.work, jobs.AnonymousResultKey(t.env.Job), r, jobs.ResultTTL(t.env.Mode))
	if err != nil {
		h.log.Warn("result_not_stored", "job", t.env.Job, "error", err)
		return // AckWait brings it again
	}
	h.send(t.env.ReplyTo, t.env.Type, t.env.Job, won.Attempt, won.Body)
	_ = h.ack(t.job)
}

// firstResult stores r unless there is a result already, and returns the one that counts: nobody may see another one.
func (h *Host) firstResult(ctx context.Context, key string, r *jobs.Result, ttl time.Duration) (won *jobs.Result, err error) {
	body, rev := r.Append(nil), uint64(0)
	err = h.insist(ctx, "result", func() error {
		if _, err := h.results.PutSync(key, body, rev, ttl); err == nil {
			won = r
			return nil
		}
		e, err := h.results.Get(ctx, key)
		if err != nil {
			return err
		}
		if e.Exists {
			won, err = jobs.ParseResult(e.Value)
			return err
		}
		rev = e.Revision
		_, err = h.results.PutSync(key, body, rev, ttl)
		won = r
		return err
	})
	return won, err
}
