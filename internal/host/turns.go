package host

import (
	"container/list"
	"context"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

// turns bounds how many sessions' loops run at once: with 100,000 sessions waiting for a slot, the others wait in order
// without a goroutine. A session whose job waits for a retry gives its turn back, so a closed gate holds nobody else.
type turns struct {
	mu      sync.Mutex
	free    int
	waiting list.List // of *session
}

// spareTurns are those beyond the pool's slots: loops that read, commit, or wait to be the next in a slot.
const spareTurns = 256

// enter starts the session's loop when there is a turn, else puts it behind those that wait.
func (t *turns) enter(s *session) {
	t.mu.Lock()
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
	front := t.waiting.Front()
	if front == nil {
		t.free++
		t.mu.Unlock()
		return
	}
	s := t.waiting.Remove(front).(*session)
	t.mu.Unlock()
	s.begin(true)
}

// take removes those that pick chooses. They start without a turn.
func (t *turns) take(pick func(*session) bool) {
	var chosen []*session
	t.mu.Lock()
	for e := t.waiting.Front(); e != nil; {
		s := e.Value.(*session)
		after := e.Next()
		if pick(s) {
			t.waiting.Remove(e)
			chosen = append(chosen, s)
		}
		e = after
	}
	t.mu.Unlock()
	for _, s := range chosen {
		s.begin(false)
	}
}

// wardPause is the time between looks at the sessions that wait for a turn.
const wardPause = 250 * time.Millisecond

// ward starts the loops of sessions whose jobs must not wait for a turn: a call that has waited as long as for a slot, a
// deadline that has passed, an epoch that is over. It tells those whose jobs are stuck.
func (h *Host) ward(ctx context.Context) {
	tick := time.NewTicker(wardPause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			now := h.now()
			h.turns.take(func(s *session) bool { return s.urgent(now) })
			h.tellStuck(now)
		}
	}
}

func (s *session) urgent(now time.Time) bool {
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
		if i == 0 && j.env.Mode == jobs.ModeCall && waited >= s.p.h.cfg.CheckoutTimeout || j.expires() && !j.due.After(now) {
			return true
		}
	}
	return false
}
