package host

import (
	"container/list"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

// turns bounds how many sessions' loops run at once: with 100,000 sessions waiting for a slot, the others wait in order
// without a goroutine. A session whose job waits for a retry gives its turn back, so a closed gate holds nobody else. Of those
// whose jobs wait for a circuit breaker, all but a few are parked without a goroutine.
type turns struct {
	mu      sync.Mutex
	free    int
	waiting list.List // of *session
	holding int       // loops that wait for a breaker
	parked  list.List // of parked
	admits  func(breaker string) bool
}

// parked is a session whose next job waits for a breaker.
type parked struct {
	*session
	breaker string
}

// spareTurns are those beyond the pool's slots: loops that read, commit, or wait to be the next in a slot.
const spareTurns = 256

// mostHolding are the loops that wait for a breaker at once, ready to go on at the moment it lets them.
const mostHolding = 256

// enter starts the session's loop when there is a turn, else puts it behind those that wait.
func (t *turns) enter(s *session) {
	t.mu.Lock()
	if s.p.over() { // nobody may look at those that wait any more
		t.mu.Unlock()
		s.begin(false)
		return
	}
	if t.free == 0 {
		t.waiting.PushBack(s)
		t.mu.Unlock()
		return
	}
	t.free--
	t.mu.Unlock()
	s.begin(true)
}

// next hands a turn on.
func (t *turns) next() {
	t.mu.Lock()
	var s *session
	if front := t.waiting.Front(); front != nil {
		s = t.waiting.Remove(front).(*session)
	} else if front := t.parked.Front(); front != nil && t.admits(front.Value.(parked).breaker) {
		s = t.parked.Remove(front).(parked).session
	} else {
		t.free++
	}
	t.mu.Unlock()
	if s != nil {
		s.begin(true)
	}
}

// take removes those that pick chooses. They start without a turn.
func (t *turns) take(pick func(*session) bool) {
	t.mu.Lock()
	chosen := remove(&t.waiting, func(v any) *session { return v.(*session) }, pick)
	chosen = append(chosen, remove(&t.parked, func(v any) *session { return v.(parked).session }, pick)...)
	t.mu.Unlock()
	for _, s := range chosen {
		s.begin(false)
	}
}

func remove(l *list.List, of func(any) *session, pick func(*session) bool) (chosen []*session) {
	for e := l.Front(); e != nil; {
		after := e.Next()
		if s := of(e.Value); pick(s) {
			l.Remove(e)
			chosen = append(chosen, s)
		}
		e = after
	}
	return chosen
}

// admit starts parked sessions whose breaker lets something through, as far as there are turns.
func (t *turns) admit() {
	var chosen []*session
	t.mu.Lock()
	open := map[string]bool{} // breakers that were asked
	for e := t.parked.Front(); e != nil && t.free > 0; {
		p, after := e.Value.(parked), e.Next()
		if _, asked := open[p.breaker]; !asked {
			open[p.breaker] = t.admits(p.breaker)
		}
		if open[p.breaker] {
			t.parked.Remove(e)
			t.free--
			chosen = append(chosen, p.session)
		}
		e = after
	}
	t.mu.Unlock()
	for _, s := range chosen {
		s.begin(true)
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
	if t.holding < mostHolding || !s.token || s.p.over() || j.isCancelled() { // without a turn: somebody wants the loop to run
		t.holding++
		return false
	}
	j.mu.Lock()
	j.again = nil
	j.mu.Unlock()
	close(s.quit)
	s.queue, s.running = slices.Insert(s.queue, 0, j), nil
	s.asks, s.wake, s.quit = nil, nil, nil
	s.token = false
	s.strip()
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
