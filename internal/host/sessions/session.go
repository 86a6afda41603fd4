package sessions

import (
	"context"
	"errors"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/host/attempt"
	"github.com/dspex/dspex/internal/host/driver"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/stream"
)

// life is what the drivers of a partition's sessions belong to.
type life struct{ p *partition }

// newSession makes the driver of a session. waits reports that an earlier epoch's driver still works on it.
func (p *partition) newSession(ref jobs.SessionRef, waits bool) *driver.Driver {
	return p.all.Drivers.Session(ref, life{p}, p.epoch, p.life, waits)
}

func (s life) Anonymous() bool { return false }
func (s life) Waits()          {}
func (s life) Seated()         {}
func (s life) Spawn(f func()) {
	s.p.all.Drivers.Goroutines.Go(s.p.all.Drivers.Work, &s.p.owned.Running, f)
}
func (s life) Context() context.Context { return s.p.owned.Work }

// Admits lets nothing start that could not be committed.
func (s life) Admits(*attempt.Attempt) (lifecycle.Reason, bool) {
	return lifecycle.NoRoom, !s.p.all.Drivers.Full()
}

func (s life) Began(*driver.Driver) {
	s.p.owned.Running.Add(1)
	s.p.busy.Add(1)
}

func (s life) Rested(*driver.Driver) bool {
	s.p.busy.Add(-1)
	return false
}

// Resting lets the partition drop a session of which nothing is known, and who waited for it begin.
func (s life) Resting(d *driver.Driver) {
	defer s.p.owned.Running.Done()
	s.p.earlier.rested(d)
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if s.p.sessions[d.Ref] != d || s.p.closing {
		return
	}
	if d.Forgettable() {
		s.p.forget(d.Ref)
	}
}

// Look reads the session's record and attempt record from the stream's leader, and only then whose the partition is: who takes it
// over later changes the revisions that this epoch's writes expect.
func (s life) Look(ctx context.Context, d *driver.Driver, a *lifecycle.Action, ev *lifecycle.Event) (err error) {
	on := s.p.on
	if a.Check {
		if err := on.Clock.Confirm(ctx, a.Job.Came); err != nil {
			return err
		}
	}
	if ev.Record, err = driver.Found(on.Records.Get(ctx, d.Ref.RecordKey())); err != nil {
		return err
	}
	if ev.AttemptRecord, err = driver.Found(on.Records.Get(ctx, d.Ref.AttemptRecordKey())); err != nil {
		return err
	}
	if ev.Owner, err = s.Owner(ctx); err != nil || ev.Record.Revision > 0 {
		return err
	}
	ev.Forgot, err = s.p.all.lost.forgot(ctx)
	return err
}

func (s life) Owner(ctx context.Context) (lifecycle.Owner, error) {
	owner, epoch, err := s.p.on.Claims.Read(ctx, s.p.want.Key)
	switch {
	case err != nil || epoch == s.p.epoch:
		return lifecycle.Mine, err
	case owner.Host == s.p.all.Host:
		return lifecycle.Another, nil
	}
	return lifecycle.Foreign, nil
}

// GiveUp ends the epoch: the partition is not its own any more.
func (s life) GiveUp(o lifecycle.Owner) {
	if o == lifecycle.Foreign {
		s.p.owned.Fence(stream.ErrNotMine)
	}
	s.p.end(stream.ErrNotMine)
	s.p.shut()
}

// errFenced reports that the partition is not the epoch's any more.
var errFenced = errors.New("fenced: the partition belongs to another epoch")

// mine reads the assignment again: errFenced if it moved on.
func (p *partition) mine(ctx context.Context) error {
	o, err := life{p}.Owner(ctx)
	if err == nil && o != lifecycle.Mine {
		err = errFenced
	}
	return err
}

// Run makes one attempt of a session's job.
func (s life) Run(a *attempt.Attempt) *attempt.Output {
	out := attempt.NewOutput(a)
	if out.Err = attempt.NeedsState(a, a.StateVersion); out.Err != nil {
		return out
	}
	call := frame.CallBody{Session: a.Session.String(), StateVersion: a.StateVersion, State: a.State}
	if out.Label == jobs.Warm {
		call.State = nil
	}
	if out.Err = s.p.all.Drivers.Runner.Equip(a, &call); out.Err != nil {
		return out
	}
	warm := a.Prefer
	a.CallIfMine(call, out)
	if out.Failed(jobs.CodeStateMissing) && call.State == nil && a.State != nil {
		warm, out.Err, out.Label, call.State = 0, nil, jobs.Restored, a.State
		a.CallIfMine(call, out)
	}
	if out.Failed(jobs.CodeRecordUnreadable) && lifecycle.Empties(a.Req.Command) {
		out.Err, call.State, call.StateVersion = nil, nil, 0 // what cannot be read can still be thrown away
		a.CallIfMine(call, out)
	}
	switch {
	case out.Err != nil || out.Stale || out.GaveUp:
	case a.Req.Command == importSession:
		out.Err = s.importable(out)
	case a.Req.Command == lifecycle.EraseSession:
		out.Err = s.erased(a.Session)
	}
	s.p.all.Telemetry.Stats.Affinity(warm, out.Slot.WorkerID)
	return out
}
