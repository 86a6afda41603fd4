package anonymous

import (
	"context"
	"sync"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/host/attempt"
	"github.com/dspex/dspex/internal/host/driver"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/stream"
)

// scope is what the driver of an anonymous job belongs to.
type scope struct {
	all      *Jobs
	wg       sync.WaitGroup
	arrival  *arrival
	admitted bool   // it may take a slot, and can be cancelled
	enter    func() // has it found by those who cancel
}

func (l *scope) Anonymous() bool { return true }

func (l *scope) Began(*driver.Driver) { l.wg.Add(1) }

func (l *scope) Rested(*driver.Driver) bool { return true }

func (l *scope) Resting(*driver.Driver) { l.wg.Done() }

func (l *scope) Spawn(f func()) { l.all.Drivers.Goroutines.Go(l.all.Drivers.Work, &l.wg, f) }

func (l *scope) Context() context.Context { return l.all.Drivers.Work }

func (l *scope) GiveUp(lifecycle.Owner) {}

// Admits lets the job take a slot. It came for room that somebody else may have taken: then another host may have some.
func (l *scope) Admits(a *attempt.Attempt) (why lifecycle.Reason, ok bool) {
	if !l.admitted && l.all.admit(a, l.arrival) {
		l.admitted = true
		l.enter()
	}
	return lifecycle.OtherHost, l.admitted
}

func (l *scope) Waits() { l.arrival.enterPool() }

func (l *scope) GotSlot() { l.arrival.start() }

func (l *scope) Owner(context.Context) (lifecycle.Owner, error) { return lifecycle.Mine, nil }

func (l *scope) Look(context.Context, *driver.Driver, *lifecycle.Action, *lifecycle.Event) error {
	return nil
}

// run brings one delivery to its outcome, or to its next attempt. since reports which jobs can have no earlier attempts if they come for
// the first time, began when the delivery was requested.
func (all *Jobs) run(m *stream.Delivery, began clock.Mono, since lifecycle.Moment, place *arrival) {
	j, from := all.Drivers.Payloads.Parse(m)
	of := from.Session
	j.Delivered, j.Lane = m.Delivered, from.Lane
	l := &scope{all: all, arrival: place}
	d := all.Drivers.Anonymous(of, l, since, began)
	job := name{of.Tenant, j.Env.Job}
	l.enter = func() { all.here.enter(job, d) }
	stop := context.AfterFunc(all.Drivers.Work, d.Cut)
	d.FeedHere(lifecycle.Event{Kind: lifecycle.Delivered, Job: j})
	l.wg.Wait()
	stop()
	all.here.leave(job, d)
}

// Run makes one attempt of an anonymous job.
func (l *scope) Run(a *attempt.Attempt) *attempt.Output {
	p, ctx := l.all.Provision, l.all.Drivers.Work
	out := attempt.NewOutput(a)
	if out.Err = attempt.NeedsState(a, 0); out.Err != nil {
		return out
	}
	if !attempt.LoadArgs(a, out) {
		return out
	}
	call := frame.CallBody{}
	var made string // the id of a program that the job makes
	if made, out.Err = p.WithProgram(ctx, &a.Task, &call); out.Err != nil {
		return out
	}
	if out.Err = l.all.Drivers.Runner.Equip(a, &call); out.Err != nil {
		return out
	}
	if a.CallIfMine(call, out); out.Err != nil || out.Stale || out.GaveUp {
		return out
	}
	if out.ChoseLM && out.LM != nil {
		out.Err = p.PublishDefault(ctx, out.LM)
	}
	if out.Err == nil && out.Program != nil && a.Req.Needs(a.Session) == jobs.RoleOperator { // the requester had the role
		out.Err = p.PublishProgram(ctx, out.Program)
	}
	if out.Err == nil && made != "" {
		out.Err = p.KeepProgram(a.Session, made, out.State)
	}
	return out
}
