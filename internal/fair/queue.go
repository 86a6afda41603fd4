// Package fair orders what waits for a slot: by class, then by tenant, then those that were idle before those that were not, then
// by arrival. Classes and tenants share by weight. It is what keeps one crowd from starving all others. It holds no lock and starts nothing.
package fair

import "container/list"

// Class is what kind of job waits. Classes share the slots by weight; one that has nothing waiting leaves its share to the others.
type Class int

// The classes.
const (
	Call   Class = iota // someone waits for the answer
	Queued              // a published job
	Batch               // a published job of the batch lane
	classes
)

// weights are the shares of the classes while all of them have something waiting.
var weights = [classes]float64{Call: 8, Queued: 3, Batch: 1}

// Share is the least share of the slots that a class gets while those others wait, too.
func Share(c Class, others ...Class) float64 {
	sum := weights[c]
	for _, o := range others {
		sum += weights[o]
	}
	return weights[c] / sum
}

// mostReserved bounds the reserve of a host with many slots.
const mostReserved = 4

// Reserve is how many of a host's slots are for calls alone: one in 16, so that a call finds one free beside any backlog.
func Reserve(slots int) int { return min(slots/16, mostReserved) }

// BatchSlots is how many of a host's slots jobs of the batch lane may have at a time.
func BatchSlots(slots int) int { return max(slots-max(Reserve(slots), 1), 1) }

// Key reports how an entry is ordered.
type Key struct {
	Class  Class
	Tenant string
	Fresh  bool // nothing of its session ran a moment ago: it goes before those of its tenant that are served all the time
}

// Entry is one that waits.
type Entry[T any] struct {
	Value T

	key Key
	at  *list.Element
	in  *tenant
}

// Queue holds what waits. The zero value is empty. It is not safe for concurrent use.
type Queue[T any] struct {
	classes [classes]class
	clock   float64 // the position of the class that was served last
	length  int
	weights Weights // of tenants
}

// class is the entries of one class. Its position grows by 1/weight with each that is served: the lowest is next.
type class struct {
	position float64
	clock    float64 // the position of the tenant that was served last
	length   int
	tenants  map[string]*tenant // those that wait, and those that have had more than their share
}

// tenant is the entries of a tenant within a class. Its position grows by 1/weight with each that is served.
type tenant struct {
	name     string
	position float64
	fresh    list.List
	others   list.List
}

func (t *tenant) length() int { return t.fresh.Len() + t.others.Len() }

func (t *tenant) list(k Key) *list.List {
	if k.Fresh {
		return &t.fresh
	}
	return &t.others
}

// Weigh gives tenants other weights, from the next one that is served on.
func (q *Queue[T]) Weigh(w Weights) { q.weights = w }

// Len is how many wait.
func (q *Queue[T]) Len() int { return q.length }

// Of is how many of a class wait.
func (q *Queue[T]) Of(c Class) int { return q.classes[c].length }

// Push adds one that waits from now on.
func (q *Queue[T]) Push(k Key, v T) *Entry[T] {
	c := &q.classes[k.Class]
	if c.length == 0 {
		c.position = max(c.position, q.clock) // a class that was idle has saved nothing up
	}
	t := c.tenant(k.Tenant)
	e := &Entry[T]{Value: v, key: k, in: t}
	e.at = t.list(k).PushBack(e)
	c.length++
	q.length++
	return e
}

// Remove takes out one that waits no longer. It does nothing the second time.
func (q *Queue[T]) Remove(e *Entry[T]) {
	if e.at == nil {
		return
	}
	c := &q.classes[e.key.Class]
	e.in.list(e.key).Remove(e.at)
	e.at = nil
	c.length--
	q.length--
	if c.length == 0 {
		clear(c.tenants) // nobody waits whom a debt would be owed to
	}
}

// Next returns the one whose turn it is, nil if none waits.
func (q *Queue[T]) Next() *Entry[T] { return q.NextUpTo(Batch) }

// NextUpTo is Next without the classes that come behind last.
func (q *Queue[T]) NextUpTo(last Class) *Entry[T] {
	var best *class
	for i := range last + 1 {
		if c := &q.classes[i]; c.length > 0 && (best == nil || c.position < best.position) {
			best = c
		}
	}
	if best == nil {
		return nil
	}
	return frontOf[T](best.next())
}

// NextOf is the next one of a tenant in a class, nil if it has none that waits.
func (q *Queue[T]) NextOf(c Class, of string) *Entry[T] {
	if t := q.classes[c].tenants[of]; t != nil && t.length() > 0 {
		return frontOf[T](t)
	}
	return nil
}

func frontOf[T any](t *tenant) *Entry[T] {
	front := t.fresh.Front()
	if front == nil {
		front = t.others.Front()
	}
	return front.Value.(*Entry[T])
}

// tenant is the one of that name. One that was idle has saved nothing up, and owes what it has had.
func (c *class) tenant(name string) *tenant {
	if c.tenants == nil {
		c.tenants = map[string]*tenant{}
	}
	t := c.tenants[name]
	if t == nil {
		t = &tenant{name: name}
		c.tenants[name] = t
	}
	if t.length() == 0 {
		t.position = max(t.position, c.clock)
	}
	return t
}

func (c *class) next() (best *tenant) {
	for name, t := range c.tenants {
		switch {
		case t.length() == 0:
			if t.position <= c.clock {
				delete(c.tenants, name)
			}
		case best == nil || t.position < best.position || t.position == best.position && t.name < best.name:
			best = t
		}
	}
	return best
}

// Serve takes out the one whose turn has come, and charges its class and its tenant.
func (q *Queue[T]) Serve(e *Entry[T]) {
	c := &q.classes[e.key.Class]
	q.clock, c.clock = c.position, e.in.position
	c.position += 1 / weights[e.key.Class]
	e.in.position += 1 / q.weights.of(e.in.name)
	q.Remove(e)
}

// All calls f with each one that waits, in no order, until f returns false. f may remove the entry that it is called with.
func (q *Queue[T]) All(f func(*Entry[T]) bool) {
	for i := range q.classes {
		for _, t := range q.classes[i].tenants {
			for _, l := range []*list.List{&t.fresh, &t.others} {
				for at := l.Front(); at != nil; {
					e := at.Value.(*Entry[T])
					at = at.Next()
					if !f(e) {
						return
					}
				}
			}
		}
	}
}
