package driver

import (
	"context"
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dspex/dspex/internal/host/attempt"
	"github.com/dspex/dspex/internal/host/telemetry"
	"github.com/dspex/dspex/internal/host/tokens"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/stream"
)

// Drivers makes the drivers of a host, and is what they share.
type Drivers struct {
	On         *stream.Access
	Rules      *Rules
	Runner     *attempt.Runner
	Tokens     *tokens.Tokens
	Telemetry  *telemetry.Recorder
	Payloads   *Payloads
	Work       context.Context // its end cancels running jobs
	Goroutines *Goroutines

	full    atomic.Int64 // writers that wait for room in the broker's store
	watches sync.WaitGroup
}

// Full reports that there is no room in the broker's stores: nothing is run that could not be stored.
func (all *Drivers) Full() bool { return all.full.Load() > 0 }

// Wait returns when no goroutine of the drivers is left: after the end of Work.
func (all *Drivers) Wait() {
	all.watches.Wait()
	all.Goroutines.running.Wait()
}

// roomFor reports whether there is room in the broker's stores.
func (all *Drivers) roomFor(op uint32) lifecycle.Event {
	ev := lifecycle.Event{Kind: lifecycle.RoomLooked, Op: op}
	if all.Full() {
		ev.Fault = lifecycle.NoSpace
	}
	return ev
}

// watchBreaker looks at the sessions before a breaker as soon as that changes, or lets something through.
func (all *Drivers) watchBreaker(a *lifecycle.Action) {
	if changed, name, delay := a.Changed, a.Breaker, max(a.Delay, time.Millisecond); all.Tokens.Watch(name) {
		all.watches.Go(func() {
			due := time.NewTimer(delay)
			defer due.Stop()
			select {
			case <-all.Work.Done():
			case <-changed:
			case <-due.C:
			}
			all.Tokens.Unwatch(name)
			all.Tokens.Admit()
		})
	}
}

// reply sends an answer. It may be lost; the result is there to fetch.
func (all *Drivers) reply(to lifecycle.Address, body []byte, more bool) {
	if to.To == "" {
		return
	}
	header, data := jobs.Answer(to.Type, to.Job, to.Attempt, body)
	if err := all.On.Send(to.To, header, data); err != nil {
		all.On.Log.Warn("reply_not_sent", "job", to.Job, "error", err)
		return
	}
	if !more && jobs.Imported(to.To) {
		_ = all.On.NC.Publish(to.To, nil) // the broker drops the call
	}
}

// dropEverywhere makes the workers of all hosts drop what they hold of an erased session. It is published once: nothing reads
// what a worker that misses it keeps, and others' states push it out.
func (all *Drivers) dropEverywhere(session jobs.SessionRef) {
	body, err := json.Marshal(jobs.Drop{Tenant: session.Tenant, Session: session.ID})
	if err == nil {
		err = all.On.NC.Publish(jobs.SubjectDrop, body)
	}
	if err != nil {
		all.On.Log.Warn("session_not_dropped", "session", session.String(), "error", err)
	}
}
