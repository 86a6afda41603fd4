package admission

import (
	"container/heap"
	"time"
)

const (
	ticketLate  = 10 * time.Second // so long after its time a ticket counts
	ticketEarly = 20 * time.Millisecond
	leastRetry  = 100 * time.Millisecond
	mostRetry   = 5 * time.Minute
	mostTickets = 65_536
)

// tickets are the times at which those who were refused may come back. They are as far apart as the capacity that is kept for
// them allows.
type tickets struct {
	next   time.Time
	by     map[string]*ticket
	oldest ticketHeap
}

type ticket struct {
	caller string
	at     time.Time
	index  int
}

// due reports whether the caller was to come back by now, and takes its ticket.
func (t *tickets) due(now time.Time, caller string) bool {
	for len(t.oldest) > 0 && now.Sub(t.oldest[0].at) > ticketLate {
		t.remove(t.oldest[0])
	}
	k := t.by[caller]
	if k == nil || now.Before(k.at.Add(-ticketEarly)) {
		return false
	}
	t.remove(k)
	return true
}

// calm resets how far the places are given away: nothing waits, so those who are refused next need not come behind callers that have
// lost interest. Their tickets count all the same.
func (t *tickets) calm(now time.Time) { t.next = now }

// issue reports when to come back: no sooner than least, and one after the other at the rate. A caller that has a ticket keeps it.
func (t *tickets) issue(now time.Time, caller string, least time.Duration, rate float64) time.Duration {
	if k := t.by[caller]; k != nil {
		return max(k.at.Sub(now), leastRetry)
	}
	if len(t.oldest) == 0 {
		t.next = now // nobody waits for anything
	}
	at := now.Add(least)
	if t.next.After(at) {
		at = t.next
	}
	if at.Sub(now) > mostRetry {
		return mostRetry
	}
	t.next = at.Add(time.Duration(float64(time.Second) / max(rate, 0.1)))
	if len(t.oldest) >= mostTickets {
		t.remove(t.oldest[0])
	}
	if t.by == nil {
		t.by = map[string]*ticket{}
	}
	k := &ticket{caller: caller, at: at}
	t.by[caller] = k
	heap.Push(&t.oldest, k)
	return at.Sub(now)
}

func (t *tickets) remove(k *ticket) {
	heap.Remove(&t.oldest, k.index)
	delete(t.by, k.caller)
}

// ticketHeap is a heap: the ticket whose time comes first is the first.
type ticketHeap []*ticket

func (h ticketHeap) Len() int           { return len(h) }
func (h ticketHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h ticketHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *ticketHeap) Push(x any) {
	k := x.(*ticket)
	k.index = len(*h)
	*h = append(*h, k)
}
func (h *ticketHeap) Pop() any {
	last := len(*h) - 1
	k := (*h)[last]
	*h = (*h)[:last]
	return k
}
