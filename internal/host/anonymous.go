package host

import (
	"context"
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
)

// lone is what the driver of an anonymous job belongs to.
type lone struct {
	h        *Host
	wg       sync.WaitGroup
	place    *arrival
	admitted bool   // it may take a slot, and can be cancelled
	enter    func() // has it found by those who cancel
}

func (l *lone) alone() bool              { return true }
func (l *lone) began(*driver)            { l.wg.Add(1) }
func (l *lone) rested(d *driver)         { d.ended = true }
func (l *lone) resting(*driver)          { l.wg.Done() }
func (l *lone) spawn(f func())           { l.wg.Go(f) }
func (l *lone) context() context.Context { return l.h.work }
func (l *lone) giveUp(lifecycle.Owner)   {}

// admits lets the job take a slot. It came for room that somebody else may have taken: then another host may have some.
func (l *lone) admits(a *attempt) (why lifecycle.Reason, ok bool) {
	if !l.admitted && l.h.admit(a, l.place) {
		l.admitted = true
		l.enter()
	}
	return lifecycle.OtherHost, l.admitted
}

func (l *lone) waits()  { l.place.seat() }
func (l *lone) seated() { l.place.start() }

func (l *lone) owner(context.Context) (lifecycle.Owner, error) { return lifecycle.Mine, nil }
func (l *lone) look(context.Context, *driver, *lifecycle.Action, *lifecycle.Event) error {
	return nil
}

// runAnonymous brings one delivery to its outcome, or to its next attempt. since tells which jobs can have no earlier attempts
// if they come for the first time, began when the delivery was asked for.
func (h *Host) runAnonymous(m jetstream.Msg, began clock.Mono, since lifecycle.Moment, place *arrival) {
	meta, err := m.Metadata()
	if err != nil {
		return
	}
	j, from := h.parseJob(m, meta)
	of := from.Session
	j.Delivered, j.Lane = int(meta.NumDelivered), from.Lane
	l := &lone{h: h, place: place}
	d := &driver{h: h, ref: of, life: l, core: lifecycle.NewAnonymous(&h.rules, of, since, began)}
	job := anonymousJob{of.Tenant, j.Env.Job}
	l.enter = func() { h.runs.enter(job, d) }
	stop := context.AfterFunc(h.work, d.cut)
	d.feedHere(lifecycle.Event{Kind: lifecycle.Delivered, Job: j})
	l.wg.Wait()
	stop()
	h.runs.leave(job, d)
}

// run makes one attempt of an anonymous job.
func (l *lone) run(a *attempt) *output {
	h, ctx := l.h, l.h.work
	out := newOutput(a)
	if out.Err = needsState(a, 0); out.Err != nil {
		return out
	}
	call := frame.CallBody{}
	var made string // the id of a program that the job makes
	if made, out.Err = h.withProgram(ctx, a, &call); out.Err != nil {
		return out
	}
	if out.Err = h.equip(a, &call); out.Err != nil {
		return out
	}
	if a.callIfMine(call, out); out.Err != nil || out.Stale || out.GaveUp {
		return out
	}
	if out.ChoseLM && out.LM != nil {
		out.Err = h.publishDefaultLM(ctx, out.LM)
	}
	if out.Err == nil && out.program != nil && a.Req.Needs(a.Session) == jobs.RoleOperator { // whoever asked had the role
		out.Err = h.publishProgram(ctx, out.program)
	}
	if out.Err == nil && made != "" {
		out.Err = h.keepProgram(a.Session, made, out.State)
	}
	return out
}

// anonymousRuns are the anonymous jobs that this host runs, or that wait here for a slot.
type anonymousRuns struct {
	mu sync.Mutex
	of map[anonymousJob]*driver
}

// anonymousJob names a job without session.
type anonymousJob struct{ tenant, id string }

func (r *anonymousRuns) enter(job anonymousJob, d *driver) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil {
		r.of = map[anonymousJob]*driver{}
	}
	r.of[job] = d
}

func (r *anonymousRuns) leave(job anonymousJob, d *driver) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of[job] == d {
		delete(r.of, job)
	}
}

func (r *anonymousRuns) get(job anonymousJob) *driver {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.of[job]
}
