package host

import (
	"container/list"
	"context"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/fair"
	"github.com/dspex/dspex/internal/lifecycle"
)

// turns are the run tokens, which bound how many sessions are at work at once: with 100,000 sessions waiting for a slot, the others
// wait in the order of package fair. Sessions whose next job is a call have tokens of their own, so that no backlog of published jobs
// is before them. A session gives its token back after each job, and when its job waits for a retry: its queue holds nobody
// else. Those whose jobs wait for a circuit breaker are parked, and get a token when that lets them through.
type turns struct {
	mu      sync.Mutex
	free    [turnKinds]int
	waiting [turnKinds]fair.Queue[*driver]
	parked  list.List // of *driver
	watched map[string]bool
	admits  func(breaker string) bool
}

// turn is the kind of a token.
type turn uint8

// The kinds.
const (
	noTurn turn = iota
	callTurn
	queuedTurn
	turnKinds
)

func turnOf(c fair.Class) turn {
	if c == fair.Call {
		return callTurn
	}
	return queuedTurn
}

// place is where a driver waits, under the lock of turns; empty: nowhere.
type place struct {
	kind    turn
	entry   *fair.Entry[*driver] // among those that wait for a token
	parked  *list.Element
	breaker string
}

// waitsFor is how many sessions wait for a token.
func (t *turns) waitsFor(kind turn) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return int64(t.waiting[kind].Len())
}

// open sets how many tokens of each kind there are.
func (t *turns) open(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.free[callTurn], t.free[queuedTurn] = n, n
}

// spareTurns are those beyond the pool's slots: sessions that read, commit, or wait to be the next in a slot.
var spareTurns = 256 // tests set it

func granted(kind turn) lifecycle.Event {
	return lifecycle.Event{Kind: lifecycle.TokenGranted, Token: uint8(kind)}
}

// enter gives the driver a token when there is one, else lets it wait.
func (t *turns) enter(d *driver, j *lifecycle.Job, fresh bool) {
	key := fair.Key{Class: classOf(j), Tenant: d.ref.Tenant, Fresh: fresh}
	kind := turnOf(key.Class)
	t.mu.Lock()
	if t.free[kind] == 0 {
		d.place = place{kind: kind, entry: t.waiting[kind].Push(key, d)}
		t.mu.Unlock()
		return
	}
	t.free[kind]--
	t.mu.Unlock()
	d.feed(granted(kind))
}

// park has the driver wait for a breaker. It has given its token back, or will at once.
func (t *turns) park(d *driver, breaker string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d.place = place{parked: t.parked.PushBack(d), breaker: breaker}
}

// leave takes the driver from those that wait.
func (t *turns) leave(d *driver) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.removeLocked(d)
}

func (t *turns) removeLocked(d *driver) {
	switch {
	case d.place.entry != nil:
		t.waiting[d.place.kind].Remove(d.place.entry)
	case d.place.parked != nil:
		t.parked.Remove(d.place.parked)
	}
	d.place = place{}
}

// next hands a token on.
func (t *turns) next(kind turn) {
	if kind == noTurn {
		return
	}
	t.mu.Lock()
	d := t.nextLocked(kind)
	t.mu.Unlock()
	if d != nil {
		t.grant(d, kind)
	}
}

func (t *turns) nextLocked(kind turn) *driver {
	if e := t.waiting[kind].Next(); e != nil {
		t.waiting[kind].Serve(e)
		e.Value.place = place{}
		return e.Value
	}
	if front := t.parked.Front(); front != nil {
		if d := front.Value.(*driver); t.admits(d.place.breaker) {
			t.removeLocked(d)
			return d
		}
	}
	t.free[kind]++
	return nil
}

// grant gives a token to a driver that may have ended meanwhile.
func (t *turns) grant(d *driver, kind turn) {
	if !d.feed(granted(kind)) {
		t.next(kind)
	}
}

// admit gives tokens to parked sessions whose breaker lets something through, as far as there are any.
func (t *turns) admit() {
	var chosen []*driver
	t.mu.Lock()
	open := map[string]bool{} // breakers that were asked
	for e := t.parked.Front(); e != nil && t.free[queuedTurn] > 0; {
		d, after := e.Value.(*driver), e.Next()
		name := d.place.breaker
		if _, asked := open[name]; !asked {
			open[name] = t.admits(name)
		}
		if open[name] {
			t.removeLocked(d)
			t.free[queuedTurn]--
			chosen = append(chosen, d)
		}
		e = after
	}
	t.mu.Unlock()
	for _, d := range chosen {
		t.grant(d, queuedTurn)
	}
}

// watch reports whether nobody watches the breaker; the caller does from then on.
func (t *turns) watch(breaker string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.watched[breaker] {
		return false
	}
	if t.watched == nil {
		t.watched = map[string]bool{}
	}
	t.watched[breaker] = true
	return true
}

func (t *turns) unwatch(breaker string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.watched, breaker)
}

// wardPause is the time between looks at the sessions that wait for a breaker.
const wardPause = 250 * time.Millisecond

// ward gives tokens to sessions whose breaker lets them through by now, whatever has changed it.
func (h *Host) ward(ctx context.Context) {
	tick := time.NewTicker(wardPause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			h.turns.admit()
		}
	}
}
