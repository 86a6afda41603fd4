package sessions

import (
	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/host/attempt"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
)

// Run makes one attempt of a session's job.
func (s scope) Run(a *attempt.Attempt) *attempt.Output {
	out := attempt.NewOutput(a)
	if out.Err = attempt.NeedsState(a, a.StateVersion); out.Err != nil {
		return out
	}
	if !attempt.LoadArgs(a, out) {
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
