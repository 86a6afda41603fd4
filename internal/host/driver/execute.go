package driver

import (
	"github.com/dspex/dspex/internal/fair"
	"github.com/dspex/dspex/internal/host/attempt"
	"github.com/dspex/dspex/internal/host/tokens"
	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/stream"
)

// carryOut does what the core has decided. Nothing here waits: what takes time answers with an event.
func (x *executor) carryOut(a *lifecycle.Action) {
	d, all := x.d, x.d.all
	switch a.Kind {
	case lifecycle.RequestToken:
		all.Tokens.Enter(d.token, fair.Key{Class: attempt.ClassOf(a.Job), Tenant: d.Ref.Tenant, Fresh: a.Fresh})
	case lifecycle.ReturnToken:
		all.Tokens.Return(tokens.Kind(a.Token), d.Ref.Tenant)
	case lifecycle.StopWaiting:
		all.Tokens.Leave(d.token)
	case lifecycle.Park:
		all.Tokens.Park(d.token, a.Breaker)
		all.watchBreaker(a)
	case lifecycle.Look, lifecycle.Own, lifecycle.Compare, lifecycle.Fetch, lifecycle.ReadResult, lifecycle.ReadAttempts:
		x.read(a)
	case lifecycle.WriteRecord, lifecycle.WriteAttemptRecord, lifecycle.CreateResult, lifecycle.WriteDeadLetter:
		x.write(a)
	case lifecycle.CheckRoom:
		d.Feed(all.roomFor(a.Op))
	case lifecycle.Acquire:
		x.attempts.begin(d, a)
	case lifecycle.Withdraw:
		x.attempts.withdraw(a)
	case lifecycle.Release:
		x.attempts.release(a)
	case lifecycle.Call:
		x.attempts.call(d, a)
	case lifecycle.CancelCall:
		x.attempts.of(a.Op).GiveUp(a.Err)
	case lifecycle.Verdict:
		d.cancel.verdict(a.Op, a.Verdict)
	case lifecycle.GiveUp:
		d.scope.GiveUp(a.Owner)
	case lifecycle.Log:
		x.log(a)
	default:
		x.notify(a)
	}
}

// notify carries out what needs no answer.
func (x *executor) notify(a *lifecycle.Action) {
	d, all := x.d, x.d.all
	switch a.Kind {
	case lifecycle.Reply:
		all.reply(a.Reply, a.Body, a.More)
	case lifecycle.Ack: // one that is lost does no harm: the redelivery is completed from what is written down
		x.acknowledge(a.Job, stream.AckDone)
	case lifecycle.Nak:
		x.acknowledge(a.Job, stream.AckLater(a.Delay))
	case lifecycle.KeepAlive:
		if all.On.NC.Publish(a.Job.Delivery, stream.AckProgress) == nil {
			d.Feed(lifecycle.Event{Kind: lifecycle.KeptAlive})
		}
	case lifecycle.DropPayload, lifecycle.Forget:
		if !d.scope.Anonymous() {
			all.Payloads.Release(a.Job)
		}
	case lifecycle.Drop:
		all.dropEverywhere(d.Ref)
	case lifecycle.Count:
		all.Telemetry.Ended(a.Task, a.Ran, a.Err)
	case lifecycle.Block:
		all.Telemetry.Blocked.Add(d, a.Step, a.Cause, all.On.Log)
	case lifecycle.Unblock:
		all.Telemetry.Blocked.Remove(d)
	case lifecycle.Full:
		all.full.Add(1)
	case lifecycle.Room:
		all.full.Add(-1)
	}
}

func (x *executor) acknowledge(j *lifecycle.Job, body []byte) {
	if err := x.d.all.On.NC.Publish(j.Delivery, body); err != nil {
		x.d.all.On.Log.Warn("acknowledgement_not_sent", "session", x.d.Ref.String(), "sequence", j.Sequence, "error", err)
	}
}

// log writes what the core has noted.
func (x *executor) log(a *lifecycle.Action) {
	log := x.d.all.On.Log.With("session", x.d.Ref.String())
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
	case lifecycle.AttemptRecordUnreadable:
		log.Error("attempt_record_unreadable", "error", a.Cause)
	case lifecycle.ResultUnreadable:
		log.Error("result_unreadable", "error", a.Cause)
	case lifecycle.TriesUnreadable:
		log.Error("attempts_unreadable", "error", a.Cause)
	}
}
