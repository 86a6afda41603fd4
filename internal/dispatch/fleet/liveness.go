// Package fleet is a dispatcher's view of the hosts: their heartbeats, which of them live, what they report together, and the
// Share of jobs that fail.
package fleet

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// Liveness, all on monotonic clocks.
const (
	Tick           = 200 * time.Millisecond  // between two looks at the hosts
	lease          = 10 * time.Second        // a host silent for so long is dead
	probeAfter     = 1050 * time.Millisecond // of silence: a killed process has no responder; as long as a dispatcher listens before it moves anything
	probeGap       = 600 * time.Millisecond  // between two probes: a live host that lost its connection is back by then (link.ConnectOptions)
	afterReconnect = 2 * time.Second         // after this dispatcher's own reconnect, for the hosts to come back too
)

// standing is a dispatcher's judgement of a host.
type standing string

const (
	alive    standing = "alive"
	expected standing = "expected" // it holds partitions and has sent no heartbeat yet: nobody takes them
	dead     standing = "dead"     // it has left, or was judged
)

// host is a dispatcher's view of a host.
type host struct {
	control.Heartbeat
	standing standing
	at       time.Time // of its last beat; of an expected one, since when it is
	silent   int       // probes without a responder, probeGap apart
	probed   time.Time
}

// Fleet is a dispatcher's view of the hosts.
type Fleet struct {
	broker    *stream.Access
	mu        sync.Mutex
	connected time.Time // since when this dispatcher has listened without a gap
	looked    time.Time // when it last judged
	all       map[string]*host
	errors    errorRate
	epoch     uint64 // the highest that a host has reported
	Totals    Totals
}

func (f *Fleet) observe(b control.Heartbeat) {
	f.errors.observe(b)
	f.Totals.note(b)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.epoch = max(f.epoch, b.HighestEpoch)
	if f.all == nil {
		f.all = map[string]*host{}
	}
	if b.Leaving {
		if h := f.all[b.Host]; h != nil && (h.Incarnation == b.Incarnation || h.standing == expected) {
			h.standing = dead
		}
		return
	}
	f.all[b.Host] = &host{Heartbeat: b, standing: alive, at: time.Now()}
}

// Serves reports whether the host counts as alive.
func (f *Fleet) Serves(host string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.all[host]
	return h != nil && h.standing == alive
}

// HighestEpoch is the highest epoch that a host has reported.
func (f *Fleet) HighestEpoch() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.epoch
}

// Live returns the hosts that count as alive.
func (f *Fleet) Live() []control.Heartbeat {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.liveLocked()
}

func (f *Fleet) liveLocked() (list []control.Heartbeat) {
	for _, h := range f.all {
		if h.standing == alive {
			list = append(list, h.Heartbeat)
		}
	}
	return list
}

// StoreFull reports whether a host has found the broker's store full.
func (f *Fleet) StoreFull() bool {
	return slices.ContainsFunc(f.Live(), func(b control.Heartbeat) bool { return b.Full })
}

// String names the hosts, their capacities and the judgement of each: it changes when a plan may.
func (f *Fleet) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []string
	for name, h := range f.all {
		list = append(list, fmt.Sprintf("%s/%s/%d/%t/%s", name, h.Incarnation, h.Capacity, h.Stopping, h.standing))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// Survey returns the live hosts, and those of the owners of partitions that have not been judged: a dispatcher that leads since a
// moment ago has no heartbeat of theirs yet. They are expected from now on, and judged as all others are. Who is in neither list is dead;
// the dead that own nothing are dropped.
func (f *Fleet) Survey(owners map[int]string) (live []control.Heartbeat, unjudged []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all == nil {
		f.all = map[string]*host{}
	}
	owns := map[string]bool{}
	for _, name := range owners {
		owns[name] = true
	}
	delete(owns, "")
	for name := range owns {
		h := f.all[name]
		if h == nil {
			h = &host{Heartbeat: control.Heartbeat{Host: name}, standing: expected, at: time.Now()}
			f.all[name] = h
		}
		if h.standing == expected {
			unjudged = append(unjudged, name)
		}
	}
	for name, h := range f.all {
		if h.standing != alive && !owns[name] {
			delete(f.all, name)
		}
	}
	return f.liveLocked(), unjudged
}

// Listened reports whether this dispatcher has listened for long enough to have a heartbeat of every live host.
func (f *Fleet) Listened() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Since(f.connected) > probeAfter
}

// judge finds the hosts that are dead: no responder twice, probeGap apart, or silent for a whole lease. probe checks whether a host
// it is there. It reports whether one has died. It is to be called every tick: after a longer gap this dispatcher was frozen
// itself, what the hosts have sent meanwhile is still on its way, and it judges as after a reconnect.
func (f *Fleet) judge(connected bool, probe func(host string) error) (died bool) {
	now := time.Now()
	f.mu.Lock()
	if !connected || now.Sub(f.looked) > afterReconnect {
		f.connected = now
	}
	f.looked = now
	var silent []string
	for name, h := range f.all {
		silence := now.Sub(h.at)
		switch {
		case h.standing == dead:
		case silence > lease && now.Sub(f.connected) > lease:
			h.standing, died = dead, true
		case silence > probeAfter && now.Sub(f.connected) > afterReconnect && now.Sub(h.probed) >= probeGap-Tick/2:
			h.probed = now
			silent = append(silent, name)
		}
	}
	f.mu.Unlock()
	var probes sync.WaitGroup
	for _, name := range silent {
		probes.Go(func() { f.probed(name, probe(name)) })
	}
	probes.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return died || slices.ContainsFunc(silent, func(name string) bool { return f.all[name] != nil && f.all[name].standing == dead })
}

// probed takes note of how a probe has ended.
func (f *Fleet) probed(name string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch h := f.all[name]; {
	case h == nil:
	case err == nil:
		h.silent = 0
	case !errors.Is(err, stream.ErrNoResponders):
	case h.silent == 1:
		h.standing = dead
	default:
		h.silent = 1
	}
}

// CheckoutTimeout is how long calls may wait for a slot, by the hosts' reports.
func (f *Fleet) CheckoutTimeout() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	longest := int64(0)
	for _, h := range f.all {
		longest = max(longest, h.CheckoutMillis)
	}
	return cmp.Or(time.Duration(longest)*time.Millisecond, jobs.CheckoutTimeout)
}
