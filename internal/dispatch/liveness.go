package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/jobs"
)

// standing is what a dispatcher thinks of a host.
type standing string

const (
	alive    standing = "alive"
	expected standing = "expected" // it holds partitions and has not been heard yet: nobody takes them
	dead     standing = "dead"     // it has said goodbye, or was judged
)

// heard is what a dispatcher knows of a host.
type heard struct {
	jobs.Heartbeat
	standing standing
	at       time.Time // of its last beat; of an expected one, since when it is
	silent   int       // probes without a responder, probeGap apart
	probed   time.Time
}

// hosts are the hosts as this dispatcher hears them.
type hosts struct {
	mu        sync.Mutex
	connected time.Time // since when this dispatcher has listened without a gap
	looked    time.Time // when it last judged
	all       map[string]*heard
	errors    errorRate
	epoch     uint64 // the highest that a host has told of
}

func (d *Dispatcher) hear(m *nats.Msg) {
	var b jobs.Heartbeat
	if json.Unmarshal(m.Data, &b) != nil || jobs.SubjectHeartbeat+b.Host != m.Subject {
		return
	}
	d.hosts.hear(b)
	d.hearLoad(b)
}

func (hs *hosts) hear(b jobs.Heartbeat) {
	hs.errors.hear(b)
	hs.mu.Lock()
	defer hs.mu.Unlock()
	hs.epoch = max(hs.epoch, b.HighestEpoch)
	if hs.all == nil {
		hs.all = map[string]*heard{}
	}
	if b.Leaving {
		if h := hs.all[b.Host]; h != nil && (h.Incarnation == b.Incarnation || h.standing == expected) {
			h.standing = dead
		}
		return
	}
	hs.all[b.Host] = &heard{Heartbeat: b, standing: alive, at: time.Now()}
}

// serves reports whether the host counts as alive.
func (hs *hosts) serves(host string) bool {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	h := hs.all[host]
	return h != nil && h.standing == alive
}

// highest is the highest epoch that a host has told of.
func (hs *hosts) highest() uint64 {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	return hs.epoch
}

// live returns the hosts that count as alive.
func (hs *hosts) live() []jobs.Heartbeat {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	return hs.liveLocked()
}

func (hs *hosts) liveLocked() (list []jobs.Heartbeat) {
	for _, h := range hs.all {
		if h.standing == alive {
			list = append(list, h.Heartbeat)
		}
	}
	return list
}

// full reports whether a host has found the broker's store full.
func (hs *hosts) full() bool {
	return slices.ContainsFunc(hs.live(), func(b jobs.Heartbeat) bool { return b.Full })
}

// String names the hosts, their capacities and what is thought of them: it changes when a plan may.
func (hs *hosts) String() string {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	var list []string
	for name, h := range hs.all {
		list = append(list, fmt.Sprintf("%s/%s/%d/%t/%s", name, h.Incarnation, h.Capacity, h.Stopping, h.standing))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// survey returns the live hosts, and those of the owners of partitions that have not been judged: a dispatcher that leads since a
// moment ago has not heard them yet. They are expected from now on, and judged as all others are. Who is in neither list is dead;
// the dead that own nothing are forgotten.
func (hs *hosts) survey(owners map[int]string) (live []jobs.Heartbeat, unjudged []string) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if hs.all == nil {
		hs.all = map[string]*heard{}
	}
	owns := map[string]bool{}
	for _, name := range owners {
		owns[name] = true
	}
	delete(owns, "")
	for name := range owns {
		h := hs.all[name]
		if h == nil {
			h = &heard{Heartbeat: jobs.Heartbeat{Host: name}, standing: expected, at: time.Now()}
			hs.all[name] = h
		}
		if h.standing == expected {
			unjudged = append(unjudged, name)
		}
	}
	for name, h := range hs.all {
		if h.standing != alive && !owns[name] {
			delete(hs.all, name)
		}
	}
	return hs.liveLocked(), unjudged
}

// listened reports whether this dispatcher has listened for long enough to have heard every live host.
func (hs *hosts) listened() bool {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	return time.Since(hs.connected) > probeAfter
}

// judge finds the hosts that are dead: no responder twice, probeGap apart, or silent for a whole lease. probe asks a host whether
// it is there. It reports whether one has died. It is to be called every tick: after a longer gap this dispatcher was frozen
// itself, what the hosts have said meanwhile is still on its way, and it judges as after a reconnect.
func (hs *hosts) judge(connected bool, probe func(host string) error) (died bool) {
	now := time.Now()
	hs.mu.Lock()
	if !connected || now.Sub(hs.looked) > settle {
		hs.connected = now
	}
	hs.looked = now
	var ask []string
	for name, h := range hs.all {
		silence := now.Sub(h.at)
		switch {
		case h.standing == dead:
		case silence > lease && now.Sub(hs.connected) > lease:
			h.standing, died = dead, true
		case silence > probeAfter && now.Sub(hs.connected) > settle && now.Sub(h.probed) >= probeGap-tick/2:
			h.probed = now
			ask = append(ask, name)
		}
	}
	hs.mu.Unlock()
	var probes sync.WaitGroup
	for _, name := range ask {
		probes.Go(func() { hs.probed(name, probe(name)) })
	}
	probes.Wait()
	hs.mu.Lock()
	defer hs.mu.Unlock()
	return died || slices.ContainsFunc(ask, func(name string) bool { return hs.all[name] != nil && hs.all[name].standing == dead })
}

// probed takes note of how a probe has ended.
func (hs *hosts) probed(name string, err error) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	switch h := hs.all[name]; {
	case h == nil:
	case err == nil:
		h.silent = 0
	case !errors.Is(err, nats.ErrNoResponders):
	case h.silent == 1:
		h.standing = dead
	default:
		h.silent = 1
	}
}

// probePatience bounds the wait for the answer of a probe; below settle, so that probes make no gap.
const probePatience = 500 * time.Millisecond

// judgeHosts judges every tick until ctx ends; a death makes the leader plan.
func (d *Dispatcher) judgeHosts(ctx context.Context) {
	probe := func(host string) error {
		_, err := d.nc.Request(jobs.SubjectControl+host+".ping", nil, probePatience)
		return err
	}
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		if d.hosts.judge(d.nc.IsConnected(), probe) {
			d.wake()
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}
