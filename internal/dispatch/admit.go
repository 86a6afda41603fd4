package dispatch

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/dispatch/outcomes"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// admissions is the admission of a dispatcher.
type admissions struct {
	mu    sync.Mutex
	asked time.Time // when hosts were asked last
	admission
}

// reportPause is the least time between questions to hosts.
const reportPause = 20 * time.Millisecond

// hearLoads has the answers of hosts that are asked come to admission, until the returned function is called.
func (d *Dispatcher) hearLoads() (stop func(), err error) {
	d.beats = d.broker.Inbox()
	return d.broker.Receive(d.beats, func(_ string, data []byte) {
		var b jobs.Heartbeat
		if json.Unmarshal(data, &b) == nil && d.hosts.Serves(b.Host) {
			d.hearLoad(b)
		}
	})
}

func (d *Dispatcher) hearLoad(b jobs.Heartbeat) {
	d.admissions.mu.Lock()
	defer d.admissions.mu.Unlock()
	d.admissions.hear(time.Now(), b)
}

// admit refuses a call that no slot could take in time.
func (d *Dispatcher) admit(to jobs.SessionRef, env jobs.Envelope, inbox string, deadline time.Duration) *jobs.Error {
	a := &d.admissions
	allowed := d.hosts.CheckoutTimeout()
	a.mu.Lock()
	defer a.mu.Unlock()
	if deadline > 0 {
		allowed = min(allowed, max(deadline-a.mean(), 0))
	}
	caller := callerOf(to, inbox)
	ticket := caller
	if env.Chosen {
		ticket = "job " + to.Tenant + " " + to.ID + " " + env.Job
	}
	now := time.Now()
	session := ""
	if to.ID != "" {
		session = to.String()
	}
	retry := a.admit(now, caller, ticket, session, allowed)
	if a.wantsReport(now) && now.Sub(a.asked) > reportPause {
		a.asked = now
		_ = d.broker.Invite(jobs.SubjectBeat, d.beats) // the next heartbeat comes anyway
	}
	if retry == 0 {
		return nil
	}
	e := jobs.Errorf(jobs.Resource, jobs.CodeOverloaded, "no worker would be free in time: a call waits for %v at present", a.waitIn(session).Round(10*time.Millisecond)).
		WithHint("ask again after retry_after_ms, with the same %s if you chose one: a place is kept for those who come back", jobs.HeaderJob).Again()
	e.RetryAfter = retry
	return e
}

// callerOf tells callers apart: by session, or by the connection's inbox.
func callerOf(to jobs.SessionRef, inbox string) string {
	if to.ID != "" {
		return "session " + to.Tenant + " " + to.ID
	}
	if i := strings.LastIndexByte(inbox, '.'); i > 0 {
		inbox = inbox[:i]
	}
	return "inbox " + to.Tenant + " " + inbox
}

// lanePause is the time between looks at the lane of anonymous calls while calls wait there.
const lanePause = 100 * time.Millisecond

// followLane keeps the number of anonymous calls that wait.
func (d *Dispatcher) followLane(ctx context.Context) {
	a := &d.admissions
	tick := time.NewTicker(lanePause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		a.mu.Lock()
		a.keep(d.hosts.Serves)
		busy := a.anon >= 1
		a.mu.Unlock()
		if !busy {
			continue
		}
		bounded, cancel := context.WithTimeout(ctx, stream.AckTimeout)
		p, _, err := d.broker.Progress(bounded, outcomes.CallLane)
		cancel()
		if err == nil {
			a.mu.Lock()
			a.hearLane(time.Now(), int(p.Pending))
			a.mu.Unlock()
		}
	}
}
