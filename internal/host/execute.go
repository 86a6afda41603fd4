package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/stream"
)

// carryOut does what the core has decided. Nothing here waits: what takes time answers with an event.
func (d *driver) carryOut(a *lifecycle.Action) {
	h := d.h
	switch a.Kind {
	case lifecycle.AskToken:
		h.turns.enter(d, a.Job, a.Fresh)
	case lifecycle.ReturnToken:
		h.turns.next(turn(a.Token))
	case lifecycle.StopWaiting:
		h.turns.leave(d)
	case lifecycle.Park:
		h.turns.park(d, a.Breaker)
		d.watchBreaker(a)
	case lifecycle.Look, lifecycle.Own, lifecycle.Compare, lifecycle.Fetch, lifecycle.ReadResult, lifecycle.ReadAttempts:
		d.read(a)
	case lifecycle.WriteRecord, lifecycle.WriteHead, lifecycle.CreateResult, lifecycle.WriteLetter:
		d.write(a)
	case lifecycle.AskRoom:
		d.feed(h.roomFor(a.Op))
	case lifecycle.Acquire:
		d.begin(a)
	case lifecycle.Withdraw:
		d.withdraw(a.Op, a.Err)
	case lifecycle.Release:
		d.release(a)
	case lifecycle.Call:
		d.call(a)
	case lifecycle.CancelCall:
		d.attempt(a.Op).giveUp(a.Err)
	case lifecycle.Verdict:
		d.verdict(a.Op, a.Verdict)
	case lifecycle.GiveUp:
		d.life.giveUp(a.Owner)
	case lifecycle.Log:
		d.log(a)
	default:
		d.tell(a)
	}
}

// tell carries out what nobody waits for.
func (d *driver) tell(a *lifecycle.Action) {
	h := d.h
	switch a.Kind {
	case lifecycle.Reply:
		if to := a.Reply; a.More {
			h.tell(to.To, to.Type, to.Job, to.Attempt, a.Body)
		} else {
			h.send(to.To, to.Type, to.Job, to.Attempt, a.Body)
		}
	case lifecycle.Ack: // one that is lost does no harm: the redelivery is completed from what is written down
		d.publish(a.Job, ackDone)
	case lifecycle.Nak:
		d.publish(a.Job, fmt.Appendf(nil, `-NAK {"delay": %d}`, a.Delay.Nanoseconds()))
	case lifecycle.KeepAlive:
		if h.nc.Publish(a.Job.Delivery, ackProgress) == nil {
			d.feed(lifecycle.Event{Kind: lifecycle.KeptAlive})
		}
	case lifecycle.Forget:
		if !d.life.alone() {
			h.release(a.Job)
		}
	case lifecycle.Drop:
		h.dropEverywhere(d.ref)
	case lifecycle.Count:
		h.telemetry.Ended(d.ref.Tenant, a.Ran, a.Err)
	case lifecycle.Block:
		h.telemetry.Blocked.Add(d, a.Step, a.Cause, h.log)
	case lifecycle.Unblock:
		h.telemetry.Blocked.Remove(d)
	case lifecycle.Full:
		h.full.Add(1)
	case lifecycle.Room:
		h.full.Add(-1)
	}
}

// roomFor tells whether there is room in the broker's stores.
func (h *Host) roomFor(op uint32) lifecycle.Event {
	ev := lifecycle.Event{Kind: lifecycle.RoomLooked, Op: op}
	if h.full.Load() > 0 {
		ev.Fault = lifecycle.NoSpace
	}
	return ev
}

var (
	ackDone     = []byte("+ACK")
	ackProgress = []byte("+WPI")
)

func (d *driver) publish(j *lifecycle.Job, body []byte) {
	if err := d.h.nc.Publish(j.Delivery, body); err != nil {
		d.h.log.Warn("acknowledgement_not_sent", "session", d.ref.String(), "sequence", j.Sequence, "error", err)
	}
}

// read asks the broker for something.
func (d *driver) read(a *lifecycle.Action) {
	act := *a
	d.life.spawn(func() { d.feedHere(d.answerTo(&act)) })
}

func (d *driver) answerTo(a *lifecycle.Action) lifecycle.Event {
	h, ctx := d.h, d.life.context()
	ev := lifecycle.Event{Op: a.Op}
	var err error
	switch a.Kind {
	case lifecycle.Look:
		ev.Kind = lifecycle.Looked
		err = d.life.look(ctx, d, a, &ev)
	case lifecycle.Own:
		ev.Kind = lifecycle.Owned
		ev.Owner, err = d.life.owner(ctx)
	case lifecycle.Compare:
		ev.Kind = lifecycle.Compared
		err = h.clock.Confirm(ctx, a.Job.Came)
	case lifecycle.Fetch:
		ev.Kind = lifecycle.Fetched
		ev.Data, err = h.body(ctx, a.Job)
	case lifecycle.ReadResult:
		ev.Kind = lifecycle.ResultRead
		ev.Result, err = found(h.results.Get(ctx, d.ref.ResultKey(a.Job.Env.Job)))
	case lifecycle.ReadAttempts:
		ev.Kind = lifecycle.AttemptsRead
		ev.Head, err = found(h.results.Get(ctx, d.ref.AttemptKey(a.Job.Env.Job)))
	}
	h.fault(&ev, err)
	return ev
}

func found(e stream.Entry, err error) (lifecycle.Found, error) {
	return lifecycle.Found{Value: e.Value, Revision: e.Revision, Stored: e.Stored, Exists: e.Exists}, err
}

// write writes something by compare-and-set.
func (d *driver) write(a *lifecycle.Action) {
	h, op := d.h, a.Op
	wrote := func(rev uint64, err error) {
		ev := lifecycle.Event{Kind: lifecycle.Wrote, Op: op, Revision: rev}
		h.fault(&ev, err)
		d.feed(ev)
	}
	switch a.Kind {
	case lifecycle.WriteRecord:
		h.records.Put(d.ref.RecordKey(), a.Body, a.Revision, a.TTL, wrote)
	case lifecycle.WriteHead:
		if d.life.alone() {
			h.results.Put(d.ref.AttemptKey(a.Job.Env.Job), a.Body, a.Revision, a.TTL, wrote)
		} else {
			h.records.Put(d.ref.HeadKey(), a.Body, a.Revision, a.TTL, wrote)
		}
	case lifecycle.CreateResult:
		h.results.Put(d.ref.ResultKey(a.Job.Env.Job), a.Body, a.Revision, a.TTL, wrote)
	case lifecycle.WriteLetter:
		l, data, check := a.Letter, a.Job.Data, a.Check
		j := &lifecycle.Job{Sequence: a.Job.Sequence, Size: a.Job.Size, Data: data, Lane: a.Job.Lane}
		d.life.spawn(func() { wrote(0, h.bury(d.life.context(), j, l, check)) })
	}
}

// fault says in the core's words how a read or a write has failed.
func (h *Host) fault(ev *lifecycle.Event, err error) {
	if err == nil {
		return
	}
	ev.Err, ev.Connected = err, h.nc.IsConnected()
	switch {
	case errors.Is(err, stream.ErrWrongRevision):
		ev.Fault = lifecycle.WrongRevision
	case errors.Is(err, stream.ErrUnknown):
		ev.Fault = lifecycle.Unknown
	case errors.Is(err, stream.ErrStoreFull):
		ev.Fault = lifecycle.NoSpace
	default:
		ev.Fault = lifecycle.Failed
	}
}

// log writes what the core has noted.
func (d *driver) log(a *lifecycle.Action) {
	log := d.h.log.With("session", d.ref.String())
	if a.Job != nil {
		log = log.With("job", a.Job.Env.Job, "sequence", a.Job.Sequence)
	}
	switch a.Note {
	case lifecycle.JobRetries:
		log.Info("job_retries", "attempt", a.Task.Attempt, "delay_ms", a.Delay.Milliseconds(), "error_category", a.Err.Category, "code", a.Err.Code)
	case lifecycle.JobWaits:
		log.Warn("job_waits_for_broker", "error", a.Cause)
	case lifecycle.BrokerAwaited:
		log.Warn("broker_awaited", "step", a.Step, "error", a.Cause)
	case lifecycle.DutyDelayed:
		log.Warn("duty_delayed", "step", a.Step, "error", a.Cause)
	case lifecycle.NotStarted:
		log.Warn("attempt_not_started", "attempt", a.Task.Attempt)
	case lifecycle.AttemptsLost:
		log.Warn("attempts_not_stored", "error", a.Cause)
	case lifecycle.RecordUnreadable:
		log.Error("session_record_unreadable", "error", a.Cause)
	case lifecycle.HeadUnreadable:
		log.Error("session_head_unreadable", "error", a.Cause)
	case lifecycle.ResultUnreadable:
		log.Error("result_unreadable", "error", a.Cause)
	case lifecycle.TriesUnreadable:
		log.Error("attempts_unreadable", "error", a.Cause)
	}
}

// watchBreaker has the sessions before a breaker looked at as soon as that changes, or lets something through.
func (d *driver) watchBreaker(a *lifecycle.Action) {
	if h, changed, name, d := d.h, a.Changed, a.Breaker, a.Delay; h.turns.watch(name) {
		h.watches.Go(func() {
			wait(h.work, changed, max(d, time.Millisecond))
			h.turns.unwatch(name)
			h.turns.admit()
		})
	}
}

// cancel ends the earliest outstanding job of an id.
func (d *driver) cancel(ctx context.Context, id string) jobs.CancelVerdict {
	answer := make(chan jobs.CancelVerdict, 1)
	d.mu.Lock()
	d.lastAsk++
	op := d.lastAsk
	if d.asks == nil {
		d.asks = map[uint32]chan<- jobs.CancelVerdict{}
	}
	d.asks[op] = answer
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.asks, op)
	}()
	if !d.feed(lifecycle.Event{Kind: lifecycle.CancelAsked, Op: op, ID: id}) {
		return jobs.CancelUnknown
	}
	ctx, cancel := context.WithTimeout(ctx, cancelPatience)
	defer cancel()
	select {
	case v := <-answer:
		return v
	case <-ctx.Done():
		return jobs.CancelBusy
	}
}

func (d *driver) verdict(op uint32, v jobs.CancelVerdict) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if answer := d.asks[op]; answer != nil {
		select {
		case answer <- v:
		default:
		}
	}
}
