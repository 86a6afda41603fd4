package driver

import (
	"slices"

	"github.com/dspex/dspex/internal/host/attempt"
	"github.com/dspex/dspex/internal/lifecycle"
)

// begin makes an attempt that waits for a slot.
func (l *attempts) begin(d *Driver, act *lifecycle.Action) {
	a := d.all.Runner.New(act.Task, act.Op, d.scope)
	*l = append(slices.DeleteFunc(*l, (*attempt.Attempt).Over), a)
	d.scope.Spawn(func() {
		if ev := d.all.Runner.Checkout(a); ev != nil && !d.FeedHere(*ev) {
			a.Release()
		}
	})
}

// of finds one by its operation.
func (l attempts) of(op uint32) *attempt.Attempt {
	for _, a := range l {
		if a.Op() == op {
			return a
		}
	}
	return nil
}

// withdraw ends the wait for a slot. One that is granted all the same is given back (release).
func (l attempts) withdraw(act *lifecycle.Action) {
	if a := l.of(act.Op); a != nil {
		a.GiveUp(act.Err)
	}
}

// release gives the slot back.
func (l *attempts) release(act *lifecycle.Action) {
	a := l.of(act.Op)
	if a == nil {
		return
	}
	*l = slices.DeleteFunc(*l, func(other *attempt.Attempt) bool { return other == a })
	a.End(act.Output, act.Retries)
}

// call runs the attempt in its slot.
func (l attempts) call(d *Driver, act *lifecycle.Action) {
	a := l.of(act.Op)
	a.Granted(act.Task, act.Confirmed, act.Lease)
	d.scope.Spawn(func() {
		out := d.scope.Run(a)
		out.Extra = out
		d.FeedHere(lifecycle.Event{Kind: lifecycle.Answered, Op: a.Op(), Output: &out.Output})
	})
}
