package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/breaker"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// What one host finds out holds on all: a breaker that opens here is written to dspex_control, one that closes is deleted
// there, by compare-and-set, and every host follows. Of two that disagree the first write counts. How long a breaker stays
// open each host measures by itself from when it hears of it; of entries older than the host, the broker's clock tells.

// outages are the changes that this host found out, until they are shared.
type outages struct {
	mu      sync.Mutex
	pending map[string]breaker.Event // by name, the latest
	wake    chan struct{}            // capacity 1
	others  map[string]bool          // breakers of other hosts that are open: two a host at most
	tallies map[string]tally         // by name, what this host has counted and not shared

	heard chan heardBreaker
	revs  map[string]uint64 // by key, the latest that was heard or written; of share
	sums  map[string]int    // by name, the failures in a row that are stored; of share
}

type heardBreaker struct {
	key   string
	entry stream.Entry
}

// protect makes the breakers.
func (h *Host) protect() {
	h.outages = outages{pending: map[string]breaker.Event{}, wake: make(chan struct{}, 1), heard: make(chan heardBreaker), others: map[string]bool{}, revs: map[string]uint64{},
		tallies: map[string]tally{}, sums: map[string]int{}}
	h.breakers = breaker.NewSet(h.cfg.Breaker, h.outages.found)
	h.turns.admits = func(name string) bool { return h.breakers.Look(name) == nil }
	h.breakers.Look(jobs.PoolBreaker(h.cfg.Name), jobs.StartBreaker(h.cfg.Name)) // these are always shown
}

func (o *outages) found(e breaker.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if jobs.BreakerOfAll(e.Info.Name) {
		o.tallies[e.Info.Name] = o.tallies[e.Info.Name].then(e)
	}
	if e.Change != breaker.Counted && e.Change != breaker.Cleared {
		o.pending[e.Info.Name] = e
	}
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *outages) take() map[string]breaker.Event {
	o.mu.Lock()
	defer o.mu.Unlock()
	taken := o.pending
	o.pending = map[string]breaker.Event{}
	return taken
}

// another notes a breaker of another host.
func (o *outages) another(name string, open bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if open {
		o.others[name] = true
	} else {
		delete(o.others, name)
	}
}

// fails reports whether the workers of another host are known to fail.
func (o *outages) fails(host string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.others[jobs.PoolBreaker(host)]
}

// putBack keeps what could not be shared, unless something newer was found out.
func (o *outages) putBack(left map[string]breaker.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	maps.Copy(left, o.pending)
	o.pending = left
}

func (h *Host) hearOutages(ctx context.Context, keys string) {
	stream.FollowEntries(ctx, h.js, stream.Control, keys, h.log, func(key string, e stream.Entry) {
		select {
		case h.outages.heard <- heardBreaker{key, e}:
		case <-ctx.Done():
		}
	})
}

// shareOutages applies what is heard and writes what was found out here.
func (h *Host) shareOutages(ctx context.Context) {
	o := &h.outages
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-o.heard:
			h.follow(e.key, e.entry)
			continue
		case <-o.wake:
		case <-again.C:
		}
		left := o.take()
		for name, e := range left {
			if h.share(ctx, name, e) {
				delete(left, name)
			}
		}
		counted := h.shareTallies(ctx)
		if len(left) > 0 || !counted {
			again.Reset(brokerPause)
		}
		o.putBack(left)
	}
}

// follow applies an entry that is newer than what is known.
func (h *Host) follow(key string, e stream.Entry) {
	o := &h.outages
	if e.Revision <= o.revs[key] {
		return
	}
	o.revs[key] = e.Revision
	if name, err := jobs.FailedName(key); err == nil {
		h.learnSum(name, e)
		return
	}
	name, err := jobs.BreakerName(key)
	if err == nil && !jobs.BreakerOf(name, h.cfg.Name) {
		o.another(name, e.Exists)
	}
	if err != nil || !jobs.BreakerOf(name, h.cfg.Name) {
		return
	}
	if !e.Exists {
		h.breakers.LearnClosed(name)
		return
	}
	open, err := jobs.ParseOpenBreaker(e.Value)
	if err != nil {
		h.log.Warn("breaker_unreadable", "key", key, "error", err)
		return
	}
	left := h.breakers.Config().Timeout
	if age := h.clock.Age(e.Stored); age > h.clock.Mono()-h.began { // older than this process
		if name == jobs.PoolBreaker(h.cfg.Name) || name == jobs.StartBreaker(h.cfg.Name) { // an earlier process's workers
			o.found(breaker.Event{Change: breaker.Shut, Info: breaker.Info{Name: name, State: breaker.Closed}})
			return
		}
		left -= age
	}
	h.breakers.LearnOpen(name, left, open.Failures, open.Last)
	h.log.Warn("breaker_open", "breaker", name, "found_by", open.Host, "failures", open.Failures)
}

// share writes what was found out. It reports false if that is to be tried again.
func (h *Host) share(ctx context.Context, name string, e breaker.Event) bool {
	key := jobs.BreakerKey(name)
	var rev uint64
	var err error
	if e.Change == breaker.Shut {
		rev, err = h.control.Delete(key, h.outages.revs[key])
	} else {
		rev, err = h.control.PutSync(key, jobs.OpenBreaker{Name: name, Host: h.cfg.Name, Failures: e.Info.FailureCount, Last: e.Info.LastFailure}.Bytes(), h.outages.revs[key], 0)
	}
	if errors.Is(err, stream.ErrWrongRevision) { // another host was faster
		entry, err := h.control.Get(ctx, key)
		if err != nil {
			return false
		}
		if entry.Revision == 0 { // nothing is known of it where the bucket was made again
			delete(h.outages.revs, key)
			return false
		}
		h.follow(key, entry)
		return true
	}
	if err != nil {
		h.log.Warn("breaker_not_shared", "breaker", name, "change", e.Change, "error", err)
		return false
	}
	h.outages.revs[key] = rev
	h.telemetry.Changed(e.Change)
	h.log.Warn("breaker_changed", "breaker", name, "change", e.Change, "failures", e.Info.FailureCount)
	h.tellBreaker(e)
	return true
}

// tellBreaker publishes a change. It may be lost: dspex_control has the state.
func (h *Host) tellBreaker(e breaker.Event) {
	body, err := json.Marshal(jobs.BreakerEvent{Event: jobs.EventBreaker + string(e.Change), At: time.Now().UTC(), Host: h.cfg.Name, Breaker: e.Info})
	if err == nil {
		err = h.nc.Publish(jobs.SubjectBreakerEvents+string(e.Change), body)
	}
	if err != nil {
		h.log.Warn("event_not_sent", "error", err)
	}
}

// serveBreakers answers dspex.ctl.<host>.breakers: how the breakers stand, after the reset that was asked for.
func (h *Host) serveBreakers() (stop func(), err error) {
	sub, err := h.nc.Subscribe(jobs.SubjectControl+h.cfg.Name+".breakers", func(m *nats.Msg) {
		var ask jobs.BreakersAsk
		if len(m.Data) > 0 && json.Unmarshal(m.Data, &ask) != nil {
			return
		}
		if ask.Reset != "" {
			h.outages.forget(ask.Reset)
			h.breakers.LearnClosed(ask.Reset)
		}
		if body, err := json.Marshal(h.breakers.Infos()); err == nil {
			_ = m.Respond(body) // the asker may be gone
		}
	})
	if err != nil {
		return nil, fmt.Errorf("subscribe to breakers: %w", err)
	}
	return func() { _ = sub.Unsubscribe() }, nil
}

// mostOpen bounds the names in a heartbeat.
const mostOpen = 16

// openBreakers names the breakers that are open.
func (h *Host) openBreakers() []string {
	var names []string
	for _, i := range h.breakers.Infos() {
		if i.State == breaker.Open && len(names) < mostOpen {
			names = append(names, i.Name)
		}
	}
	return names
}
