package sessions

import (
	"context"

	"github.com/dspex/dspex/internal/host/attempt"
	"github.com/dspex/dspex/internal/host/driver"
	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/stream"
)

// scope is what the drivers of a partition's sessions belong to.
type scope struct{ p *partition }

func (s scope) Anonymous() bool { return false }

func (s scope) Waits() {}

func (s scope) GotSlot() {}

func (s scope) Spawn(f func()) {
	s.p.all.Drivers.Goroutines.Go(s.p.all.Drivers.Work, &s.p.owned.Running, f)
}

func (s scope) Context() context.Context { return s.p.owned.Work }

// Admits lets nothing start that could not be committed.
func (s scope) Admits(*attempt.Attempt) (lifecycle.Reason, bool) {
	return lifecycle.NoRoom, !s.p.all.Drivers.Full()
}

func (s scope) Began(*driver.Driver) {
	s.p.owned.Running.Add(1)
	s.p.busy.Add(1)
}

func (s scope) Rested(*driver.Driver) bool {
	s.p.busy.Add(-1)
	return false
}

// Resting lets the partition drop a session of which nothing is known, and who waited for it begin.
func (s scope) Resting(d *driver.Driver) {
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
func (s scope) Look(ctx context.Context, d *driver.Driver, a *lifecycle.Action, ev *lifecycle.Event) (err error) {
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

func (s scope) Owner(ctx context.Context) (lifecycle.Owner, error) {
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
func (s scope) GiveUp(o lifecycle.Owner) {
	if o == lifecycle.Foreign {
		s.p.owned.Fence(stream.ErrNotMine)
	}
	s.p.end(stream.ErrNotMine)
	s.p.shut()
}
