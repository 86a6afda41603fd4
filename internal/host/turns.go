package host

import (
	"container/list"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/fair"
	"github.com/dspex/dspex/internal/jobs"
)

// turns bounds how many sessions' loops run at once: with 100,000 sessions waiting for a slot, the others wait without a
// goroutine, in the order of package fair. Sessions whose next job is a call have turns of their own, so that no backlog of
// published jobs is before them. A session whose job waits for a retry gives its turn back, so a closed gate holds nobody else.
// Of those whose jobs wait for a circuit breaker, all but a few are parked without a goroutine.
type turns struct {
	mu      sync.Mutex
	free    [turnKinds]int
	waiting [turnKinds]fair.Queue[*session]
	holding int       // loops that wait for a breaker
	parked  list.List // of parked
	admits  func(breaker string) bool
}

// turn is what a session's loop runs with.
type turn int8

// The kinds of turns. A loop keeps the kind that it started with until others wait for it.
const (
	noTurn turn = iota // somebody wanted the loop to run at once
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

// waitsFor is how many sessions wait for a turn.
func (t *turns) waitsFor(kind turn) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return int64(t.waiting[kind].Len())
}

// open sets how many loops of each kind may run.
func (t *turns) open(n int) {
	t.free[callTurn], t.free[queuedTurn] = n, n
}

// parked is a session whose next job waits for a breaker.
type parked struct {
	*session
	breaker string
}

// spareTurns are those beyond the pool's slots: loops that read, commit, or wait to be the next in a slot.
var spareTurns = 256 // tests set it

// mostHolding are the loops that wait for a breaker at once, ready to go on at the moment it lets them.
const mostHolding = 256

// enter starts the session's loop when there is a turn, else lets it wait for one.
func (t *turns) enter(s *session) {
	t.mu.Lock()
	if s.p.over() { // nobody may look at those that wait any more
		t.mu.Unlock()
		s.begin(noTurn)
		return
	}
	key := s.key()
	kind := turnOf(key.Class)
	if t.free[kind] == 0 {
		t.waiting[kind].Push(key, s)
		t.mu.Unlock()
		return
	}
	t.free[kind]--
	t.mu.Unlock()
	s.begin(kind)
}

// next hands a turn on.
func (t *turns) next(kind turn) {
	if kind == noTurn {
		return
	}
	t.mu.Lock()
	s := t.nextLocked(kind)
	t.mu.Unlock()
	if s != nil {
		s.begin(kind)
	}
}

func (t *turns) nextLocked(kind turn) *session {
	if e := t.waiting[kind].Next(); e != nil {
		t.waiting[kind].Serve(e)
		return e.Value
	}
	if front := t.parked.Front(); front != nil && t.admits(front.Value.(parked).breaker) {
		return t.parked.Remove(front).(parked).session
	}
	t.free[kind]++
	return nil
}

// rotate ends the loop of a session that has more jobs, after the return, if others wait for its turn: one after the other.
func (t *turns) rotate(s *session) bool {
	t.mu.Lock()
	kind := s.turn
	if kind == noTurn || t.waiting[kind].Len() == 0 {
		t.mu.Unlock()
		return false
	}
	s.mu.Lock()
	if len(s.queue) == 0 || s.p.over() {
		s.mu.Unlock()
		t.mu.Unlock()
		return false
	}
	s.retireLocked()
	key := s.keyLocked()
	s.mu.Unlock()
	next := t.nextLocked(kind)
	if to := turnOf(key.Class); t.free[to] > 0 { // of the other kind
		t.free[to]--
		defer s.begin(to)
	} else {
		t.waiting[to].Push(key, s)
	}
	t.mu.Unlock()
	if next != nil {
		next.begin(kind)
	}
	return true
}

// take removes those that pick chooses. They start without a turn.
func (t *turns) take(pick func(*session) bool) {
	var chosen []*session
	t.mu.Lock()
	for kind := range t.waiting {
		t.waiting[kind].All(func(e *fair.Entry[*session]) bool {
			if pick(e.Value) {
				t.waiting[kind].Remove(e)
				chosen = append(chosen, e.Value)
			}
			return true
		})
	}
	for e := t.parked.Front(); e != nil; {
		after := e.Next()
		if s := e.Value.(parked).session; pick(s) {
			t.parked.Remove(e)
			chosen = append(chosen, s)
		}
		e = after
	}
	t.mu.Unlock()
	for _, s := range chosen {
		s.begin(noTurn)
	}
}

// admit starts parked sessions whose breaker lets something through, as far as there are turns.
func (t *turns) admit() {
	var chosen []*session
	t.mu.Lock()
	open := map[string]bool{} // breakers that were asked
	for e := t.parked.Front(); e != nil && t.free[queuedTurn] > 0; {
		p, after := e.Value.(parked), e.Next()
		if _, asked := open[p.breaker]; !asked {
			open[p.breaker] = t.admits(p.breaker)
		}
		if open[p.breaker] {
			t.parked.Remove(e)
			t.free[queuedTurn]--
			chosen = append(chosen, p.session)
		}
		e = after
	}
	t.mu.Unlock()
	for _, s := range chosen {
		s.begin(queuedTurn)
	}
}

// park ends the loop of a session whose job waits for a breaker, after the return: the job is the first of the queue again.
// It reports false if the loop has to wait, and to call unhold afterwards.
func (t *turns) park(s *session, breaker string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.running
	if t.holding < mostHolding || s.turn == noTurn || s.p.over() || j.isCancelled() { // without a turn: somebody wants the loop to run
		t.holding++
		return false
	}
	j.mu.Lock()
	j.again = nil
	j.mu.Unlock()
	s.queue = slices.Insert(s.queue, 0, j)
	s.countLocked(j, 1)
	s.retireLocked()
	t.parked.PushBack(parked{s, breaker})
	return true
}

// unhold says that a loop does not wait for a breaker any more.
func (t *turns) unhold() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.holding--
}

// wardPause is the time between looks at the sessions that wait for a turn.
const wardPause = 250 * time.Millisecond

// ward starts the loops of sessions whose jobs must not wait for a turn: a call that has waited as long as for a slot, a
// deadline that has passed, an epoch that is over, a breaker that lets them through. It tells those whose jobs are stuck.
func (h *Host) ward(ctx context.Context) {
	tick := time.NewTicker(wardPause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			h.turns.take(func(*session) bool { return true }) // their epochs are over
			return
		case <-tick.C:
			h.turns.take((*session).urgent)
			h.turns.admit()
			h.tellStuck()
		}
	}
}

func (s *session) urgent() bool {
	if s.p.over() || s.p.ctx.Err() != nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	waited := time.Since(s.wants)
	for i, j := range s.queue {
		if waited > wardPause && !j.weighed {
			j.weigh(s.p.h)
		}
		if i == 0 && j.env.Mode == jobs.ModeCall && waited >= s.p.h.cfg.CheckoutTimeout || j.expires() && s.p.h.leftOf(j, j.bound) <= 0 {
			return true
		}
	}
	return false
}
