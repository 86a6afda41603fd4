// Package breakers serves the endpoints about the circuit breakers of all hosts.
package breakers

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/dispatch/endpoint"
	"github.com/dspex/dspex/internal/dispatch/fleet"

	"github.com/dspex/dspex/internal/breaker"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// Breakers serves the requests about circuit breakers.
type Breakers struct {
	broker *stream.Access
	hosts  *fleet.Fleet
	log    *slog.Logger
}

// New serves those of all hosts.
func New(broker *stream.Access, hosts *fleet.Fleet, log *slog.Logger) *Breakers {
	return &Breakers{broker, hosts, log}
}

// List reports how the circuit breakers stand now, on all hosts together.
func (b *Breakers) List(_ context.Context, r endpoint.Request) {
	if !endpoint.TakesNothing(r) {
		return
	}
	infos := b.requestBreakers("")
	list := []map[string]any{}
	tenant, only := endpoint.OnlyTenant(r, b.broker.Accounts())
	for _, name := range slices.Sorted(maps.Keys(infos)) {
		if only && !control.BreakerShownTo(tenant, name) {
			continue
		}
		list = append(list, breakerInfo(infos[name]))
	}
	endpoint.RespondResult(r, map[string]any{"breakers": list})
}

// requestBreakers queries every live host for its breakers, after the reset of one ("" for none), and puts the answers together.
func (b *Breakers) requestBreakers(reset string) map[string]breaker.Info {
	body, err := json.Marshal(control.BreakersRequest{Reset: reset})
	if err != nil {
		panic(err) // a text always marshals
	}
	infos := map[string]breaker.Info{}
	for _, answer := range b.hosts.RequestAll("breakers", body) {
		var of []breaker.Info
		_ = json.Unmarshal(answer, &of) // what cannot be read is missing, as a host that does not answer
		for _, i := range of {
			if other, ok := infos[i.Name]; ok {
				i = other.Join(i)
			}
			infos[i.Name] = i
		}
	}
	return infos
}

// Reset closes a breaker on every host.
func (b *Breakers) Reset(ctx context.Context, r endpoint.Request) {
	var name string
	bad := endpoint.ReadBody(r, `{"name": "..."}`, map[string]*endpoint.Entry{
		"name": endpoint.Text(&name, "the name of a breaker", func(s string) bool { return s != "" && len(s) <= control.MostBreakerName }).Needed(),
	})
	if bad == nil {
		bad = b.closeBreaker(ctx, name)
	}
	if bad != nil {
		endpoint.Refuse(r, bad)
		return
	}
	info, known := b.requestBreakers(name)[name]
	if e, err := b.broker.Control.Get(ctx, control.FailureKey(name)); err == nil && e.Exists {
		_, err = b.broker.Control.Delete(control.FailureKey(name), e.Revision)
		if err != nil { // a host has counted meanwhile
			b.log.Debug("failures_not_reset", "breaker", name, "error", err)
		}
	}
	if !known { // of a host that is not there any more
		info = breaker.Info{Name: name, State: breaker.Closed}
	}
	body, err := json.Marshal(control.BreakerEvent{Event: control.EventBreaker + string(breaker.Reset), At: time.Now().UTC(), Breaker: info})
	if err == nil {
		err = b.broker.Send(control.SubjectBreakerEvents+string(breaker.Reset), nil, body)
	}
	if err != nil {
		b.log.Warn("event_not_sent", "error", err)
	}
	b.log.Warn("breaker_reset", "breaker", name)
	endpoint.RespondResult(r, breakerInfo(info))
}

// resetTries bounds how often hosts may be faster than a reset.
const resetTries = 8

// closeBreaker deletes what every host follows. A breaker that was never open has nothing there.
func (b *Breakers) closeBreaker(ctx context.Context, name string) *jobs.Error {
	for tries := resetTries; ; tries-- {
		e, err := b.broker.Control.Get(ctx, control.BreakerKey(name))
		if err == nil && !e.Exists {
			known := b.requestBreakers("")
			if _, ok := known[name]; ok {
				return nil
			}
			return unknownBreaker(known)
		}
		if err == nil {
			_, err = b.broker.Control.Delete(control.BreakerKey(name), e.Revision)
		}
		if err == nil {
			return nil
		}
		if !errors.Is(err, stream.ErrWrongRevision) || tries == 0 {
			return jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the breaker cannot be reset: %v", err).Again()
		}
	}
}

func unknownBreaker(known map[string]breaker.Info) *jobs.Error {
	e := jobs.Errorf(jobs.Session, jobs.CodeBreakerUnknown, "there is no such circuit breaker")
	e.Path, e.Expected = "name", strings.Join(slices.Sorted(maps.Keys(known)), ", ")
	return e
}

// breakerInfo is a breaker under the names of contract/breakers.md.
func breakerInfo(i breaker.Info) map[string]any {
	var last any
	if l := i.LastFailure; l != nil {
		last = map[string]any{"what": l.What, "at": endpoint.TimeText(l.At)}
	}
	var since any // not known of a host that is gone
	if !i.LastStateChange.IsZero() {
		since = endpoint.TimeText(i.LastStateChange)
	}
	return map[string]any{
		"name": i.Name, "state": string(i.State), "failure_count": i.FailureCount, "success_count": i.SuccessCount, "half_open_count": i.HalfOpenCount,
		"last_failure": last, "last_state_change": since, "time_until_retry": i.TimeUntilRetry,
		"config": map[string]any{"failure_threshold": i.Config.FailureThreshold, "success_threshold": i.Config.SuccessThreshold, "timeout": i.Config.Timeout},
	}
}
