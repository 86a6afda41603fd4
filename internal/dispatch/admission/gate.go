// Package admission refuses calls that no slot could take in time.
package admission

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/dispatch/fleet"
	"github.com/dspex/dspex/internal/dispatch/outcomes"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// Gate is the estimate of a dispatcher, under a lock.
type Gate struct {
	broker *stream.Access
	hosts  *fleet.Fleet
	inbox  string // where hosts answer

	mu      sync.Mutex
	invited time.Time // when hosts were queried last
	estimate
}

// New admits calls by what the hosts report.
func New(broker *stream.Access, hosts *fleet.Fleet) *Gate {
	return &Gate{broker: broker, hosts: hosts}
}

// reportPause is the least time between questions to hosts.
const reportPause = 20 * time.Millisecond

// Receive has the answers of queried hosts come to admission, until the returned function is called.
func (a *Gate) Receive() (stop func(), err error) {
	a.inbox = a.broker.Inbox()
	return a.broker.Receive(a.inbox, func(_ string, data []byte) {
		var b control.Heartbeat
		if json.Unmarshal(data, &b) == nil && a.hosts.Serves(b.Host) {
			a.Observe(b)
		}
	})
}

// Observe takes a host's report.
func (a *Gate) Observe(b control.Heartbeat) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.observe(time.Now(), b)
}

// Admit refuses a call that no slot could take in time.
func (a *Gate) Admit(to jobs.SessionRef, env jobs.Envelope, inbox string, deadline time.Duration) *jobs.Error {
	allowed := a.hosts.CheckoutTimeout()
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
	retry := a.estimate.admit(now, caller, ticket, session, allowed)
	if a.needsReport(now) && now.Sub(a.invited) > reportPause {
		a.invited = now
		_ = a.broker.Invite(jobs.SubjectBeat, a.inbox) // the next heartbeat comes anyway
	}
	if retry == 0 {
		return nil
	}
	e := jobs.Errorf(jobs.Resource, jobs.CodeOverloaded, "no worker would be free in time: a call waits for %v at present", a.waitIn(session).Round(10*time.Millisecond)).
		WithHint("retry after retry_after_ms, with the same %s if you chose one: the dispatcher keeps your place", jobs.HeaderJob).Again()
	e.RetryAfter = retry
	return e
}

// callerOf distinguishes callers: by session, or by the connection's inbox.
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

// FollowLane keeps the number of anonymous calls that wait.
func (a *Gate) FollowLane(ctx context.Context) {
	for range clock.Every(ctx, lanePause) {
		a.mu.Lock()
		a.keep(a.hosts.Serves)
		busy := a.anon >= 1
		a.mu.Unlock()
		if !busy {
			continue
		}
		bounded, cancel := context.WithTimeout(ctx, stream.AckTimeout)
		p, _, err := a.broker.Progress(bounded, outcomes.CallLane)
		cancel()
		if err == nil {
			a.mu.Lock()
			a.observeLane(time.Now(), int(p.Pending))
			a.mu.Unlock()
		}
	}
}
