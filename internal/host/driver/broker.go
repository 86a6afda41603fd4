package driver

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/stream"
)

// read queries the broker for something.
func (x *executor) read(a *lifecycle.Action) {
	act := *a
	x.d.scope.Spawn(func() { x.d.FeedHere(x.answerTo(&act)) })
}

func (x *executor) answerTo(a *lifecycle.Action) lifecycle.Event {
	d, on, ctx := x.d, x.d.all.On, x.d.scope.Context()
	ev := lifecycle.Event{Op: a.Op}
	var err error
	switch a.Kind {
	case lifecycle.Look:
		ev.Kind = lifecycle.Looked
		err = d.scope.Look(ctx, d, a, &ev)
	case lifecycle.Own:
		ev.Kind = lifecycle.Owned
		ev.Owner, err = d.scope.Owner(ctx)
	case lifecycle.Compare:
		ev.Kind = lifecycle.Compared
		err = on.Clock.Confirm(ctx, a.Job.Came)
	case lifecycle.Fetch:
		ev.Kind = lifecycle.Fetched
		ev.Data, err = d.all.Payloads.Body(ctx, a.Job)
	case lifecycle.ReadResult:
		ev.Kind = lifecycle.ResultRead
		ev.Result, err = Found(on.Results.GetTogether(ctx, d.Ref.ResultKey(a.Job.Env.Job)))
	case lifecycle.ReadAttempts:
		ev.Kind = lifecycle.AttemptsRead
		ev.AttemptRecord, err = Found(on.Results.Get(ctx, d.Ref.AttemptKey(a.Job.Env.Job)))
	}
	d.all.fault(&ev, err)
	return ev
}

// Found is the result of a read of a bucket, in the words of the core.
func Found(e stream.Entry, err error) (lifecycle.Found, error) {
	return lifecycle.Found{Value: e.Value, Revision: e.Revision, Stored: e.Stored, Exists: e.Exists}, err
}

// write writes something by compare-and-set.
func (x *executor) write(a *lifecycle.Action) {
	d, on, op := x.d, x.d.all.On, a.Op
	wrote := func(rev uint64, err error) {
		ev := lifecycle.Event{Kind: lifecycle.Wrote, Op: op, Revision: rev}
		d.all.fault(&ev, err)
		d.Feed(ev)
	}
	switch a.Kind {
	case lifecycle.WriteRecord:
		on.Records.Put(d.Ref.RecordKey(), a.Body, a.Revision, a.TTL, wrote)
	case lifecycle.WriteAttemptRecord:
		if d.scope.Anonymous() {
			on.Results.Put(d.Ref.AttemptKey(a.Job.Env.Job), a.Body, a.Revision, a.TTL, wrote)
		} else {
			on.Records.Put(d.Ref.AttemptRecordKey(), a.Body, a.Revision, a.TTL, wrote)
		}
	case lifecycle.CreateResult:
		on.Results.Put(d.Ref.ResultKey(a.Job.Env.Job), a.Body, a.Revision, a.TTL, wrote)
	case lifecycle.WriteDeadLetter:
		l, data, check := a.DeadLetter, a.Job.Data, a.Check
		j := &lifecycle.Job{Sequence: a.Job.Sequence, Size: a.Job.Size, Data: data, Lane: a.Job.Lane}
		d.scope.Spawn(func() { wrote(0, d.all.storeDeadLetter(d.scope.Context(), j, l, check)) })
	}
}

// fault translates the failure of a read or a write for the core.
func (all *Drivers) fault(ev *lifecycle.Event, err error) {
	if err == nil {
		return
	}
	ev.Err, ev.Connected = err, all.On.NC.IsConnected()
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

// storeDeadLetter keeps a dead job with its request, its headers and its error history. The broker stores one of two with the
// same id within its window of duplicates; check reports that there may be an older one.
func (all *Drivers) storeDeadLetter(ctx context.Context, j *lifecycle.Job, d *jobs.DeadLetter, check bool) error {
	if check {
		if there, err := all.hasDeadLetter(ctx, d); there || err != nil {
			return err
		}
	}
	body, err := all.Payloads.Body(ctx, j)
	if err != nil {
		return fmt.Errorf("dead letter: %w", err)
	}
	switch req, bad := jobs.ParseRequest(d.Type, body, all.On.MaxPayload); {
	case bad == nil:
		d.Command = req.Command
	case bad.Code == jobs.CodeSecret:
		body = nil // a key is not kept beyond the job
	}
	if err := all.On.Store(d.Subject(), d.Header(all.On.MaxPayload), body); err != nil {
		return fmt.Errorf("dead letter: %w", err)
	}
	return nil
}

// hasDeadLetter looks at the last dead letter of the session, whose jobs die one after the other.
func (all *Drivers) hasDeadLetter(ctx context.Context, d *jobs.DeadLetter) (bool, error) {
	m, err := stream.GetLast(ctx, all.On.NC, stream.Dead, d.Subject())
	if errors.Is(err, stream.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("dead letter: %w", err)
	}
	return m.Header.Get(jobs.HeaderSequence) == strconv.FormatUint(d.Sequence, 10) && m.Header.Get(jobs.HeaderJob) == d.Job, nil
}
