// Package tokens bounds how many sessions of a host are at work at once.
package tokens

import (
	"container/list"
	"context"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/fair"
)

// Tokens are the run tokens, which bound how many sessions are at work at once: with 100,000 sessions waiting for a slot, the others
// wait in the order of package fair. Sessions whose next job is a call have tokens of their own, so that no backlog of published jobs
// is before them. A tenant none of whose sessions has a token gets one beyond the number, so that it waits for a slot only, whatever the
// backlog of others. A session gives its token back after each job, and when its job waits for a retry: its queue holds nobody
// else. Those whose jobs wait for a circuit breaker are parked, and get a token when that lets them through.
type Tokens struct {
	mu      sync.Mutex
	number  int                   // of each kind
	free    [Kinds]int            // below zero: as many are out beyond the number
	held    [Kinds]map[string]int // by tenant
	waiting [Kinds]fair.Queue[*Waiter]
	parked  list.List // of *Waiter
	watched map[string]bool
	admits  func(breaker string) bool // lets something through
}

// Kind is the kind of a token.
type Kind uint8

// The kinds.
const (
	none Kind = iota
	Call
	Queued
	Kinds // how many there are
)

// classOf is the class of those that need a token of the kind.
func classOf(k Kind) fair.Class {
	if k == Call {
		return fair.Call
	}
	return fair.Queued
}

// KindOf is the kind that jobs of a class need.
func KindOf(c fair.Class) Kind {
	if c == fair.Call {
		return Call
	}
	return Queued
}

// Waiter is who may wait for a token, in one place at a time; its fields are under the lock of Tokens.
type Waiter struct {
	tenant  string
	grant   func(Kind) bool // reports false if it needs no token any more
	kind    Kind
	entry   *fair.Entry[*Waiter] // among those that wait for a token
	parked  *list.Element
	breaker string
}

// NewWaiter makes one of a tenant's that is granted a token by grant.
func NewWaiter(tenant string, grant func(Kind) bool) *Waiter {
	return &Waiter{tenant: tenant, grant: grant}
}

// away drops where it waited.
func (w *Waiter) away() { *w = Waiter{tenant: w.tenant, grant: w.grant} }

// New makes n tokens of each kind. admits reports whether a breaker lets something through.
func New(n int, admits func(breaker string) bool) *Tokens {
	return &Tokens{number: n, free: [Kinds]int{Call: n, Queued: n}, held: [Kinds]map[string]int{Call: {}, Queued: {}}, admits: admits}
}

// Resize makes them n of each kind. Those that are too many are not handed on when they come back; those that are new go to who waits.
func (t *Tokens) Resize(n int) {
	var chosen [Kinds][]*Waiter
	t.mu.Lock()
	more := n - t.number
	t.number = n
	for kind := Call; kind < Kinds; kind++ {
		t.free[kind] += more
		for t.free[kind] > 0 && t.waiting[kind].Len() > 0 {
			e := t.waiting[kind].Next()
			t.waiting[kind].Serve(e)
			e.Value.away()
			t.takeLocked(kind, e.Value.tenant)
			chosen[kind] = append(chosen[kind], e.Value)
		}
	}
	t.mu.Unlock()
	for kind, those := range chosen {
		for _, w := range those {
			t.grant(w, Kind(kind))
		}
	}
	t.Admit()
}

// Weigh gives tenants other weights.
func (t *Tokens) Weigh(w fair.Weights) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for kind := range t.waiting {
		t.waiting[kind].Weigh(w)
	}
}

// WaitsFor is how many sessions wait for a token.
func (t *Tokens) WaitsFor(kind Kind) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return int64(t.waiting[kind].Len())
}

// Enter grants a token when there is one, else lets w wait for its share.
func (t *Tokens) Enter(w *Waiter, key fair.Key) {
	kind := KindOf(key.Class)
	t.mu.Lock()
	if t.free[kind] <= 0 && !t.owedLocked(kind, w.tenant) {
		w.kind, w.entry = kind, t.waiting[kind].Push(key, w)
		t.mu.Unlock()
		return
	}
	t.takeLocked(kind, w.tenant)
	t.mu.Unlock()
	w.grant(kind)
}

// owedLocked reports whether others have tokens, and the tenant has none.
func (t *Tokens) owedLocked(kind Kind, tenant string) bool {
	return len(t.held[kind]) > 0 && t.held[kind][tenant] == 0
}

func (t *Tokens) takeLocked(kind Kind, tenant string) {
	t.free[kind]--
	t.held[kind][tenant]++
}

func (t *Tokens) giveLocked(kind Kind, tenant string) {
	t.free[kind]++
	if t.held[kind][tenant]--; t.held[kind][tenant] <= 0 {
		delete(t.held[kind], tenant)
	}
}

// Park has w wait for a breaker. It has given its token back, or will at once.
func (t *Tokens) Park(w *Waiter, breaker string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w.parked, w.breaker = t.parked.PushBack(w), breaker
}

// Leave takes w from those that wait.
func (t *Tokens) Leave(w *Waiter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.removeLocked(w)
}

func (t *Tokens) removeLocked(w *Waiter) {
	switch {
	case w.entry != nil:
		t.waiting[w.kind].Remove(w.entry)
	case w.parked != nil:
		t.parked.Remove(w.parked)
	}
	w.away()
}

// Return hands on a token that a session of the tenant had.
func (t *Tokens) Return(kind Kind, tenant string) {
	if kind == none {
		return
	}
	t.mu.Lock()
	t.giveLocked(kind, tenant)
	w := t.nextLocked(kind, tenant)
	if w != nil {
		t.takeLocked(kind, w.tenant)
	}
	t.mu.Unlock()
	if w != nil {
		t.grant(w, kind)
	}
}

// nextLocked is who gets the token that came back from the tenant: itself, if it has no other. One beyond the number goes to nobody else.
func (t *Tokens) nextLocked(kind Kind, from string) *Waiter {
	q := &t.waiting[kind]
	var e *fair.Entry[*Waiter]
	if t.owedLocked(kind, from) {
		e = q.NextOf(classOf(kind), from)
	}
	if e == nil && t.free[kind] > 0 {
		e = q.Next()
	}
	if e != nil {
		q.Serve(e)
		e.Value.away()
		return e.Value
	}
	if front := t.parked.Front(); front != nil && t.free[kind] > 0 {
		if w := front.Value.(*Waiter); t.admits(w.breaker) {
			t.removeLocked(w)
			return w
		}
	}
	return nil
}

// grant gives a token to who may need none any more.
func (t *Tokens) grant(w *Waiter, kind Kind) {
	if !w.grant(kind) {
		t.Return(kind, w.tenant)
	}
}

// Admit gives tokens to parked sessions whose breaker lets something through, as far as there are any.
func (t *Tokens) Admit() {
	var chosen []*Waiter
	t.mu.Lock()
	open := map[string]bool{} // breakers that were checked
	for e := t.parked.Front(); e != nil && t.free[Queued] > 0; {
		w, after := e.Value.(*Waiter), e.Next()
		name := w.breaker
		if _, asked := open[name]; !asked {
			open[name] = t.admits(name)
		}
		if open[name] {
			t.removeLocked(w)
			t.takeLocked(Queued, w.tenant)
			chosen = append(chosen, w)
		}
		e = after
	}
	t.mu.Unlock()
	for _, w := range chosen {
		t.grant(w, Queued)
	}
}

// Watch reports whether nobody watches the breaker; the caller does from then on, until Unwatch.
func (t *Tokens) Watch(breaker string) bool {
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

// Unwatch ends that.
func (t *Tokens) Unwatch(breaker string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.watched, breaker)
}

// lookPause is the time between looks at the sessions that wait for a breaker.
const lookPause = 250 * time.Millisecond

// Run gives tokens to sessions whose breaker lets them through by now, whatever has changed it.
func (t *Tokens) Run(ctx context.Context) {
	for range clock.Every(ctx, lookPause) {
		t.Admit()
	}
}
