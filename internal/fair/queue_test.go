package fair

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func drain(q *Queue[string], n int) (order []string) {
	for range n {
		e := q.Next()
		if e == nil {
			break
		}
		q.Serve(e)
		order = append(order, e.Value)
	}
	return order
}

func count(order []string, of string) (n int) {
	for _, v := range order {
		if v == of {
			n++
		}
	}
	return n
}

func TestClassesShareByWeight(t *testing.T) {
	var q Queue[string]
	for range 1000 {
		q.Push(Key{Class: Batch}, "batch")
		q.Push(Key{Class: Queued}, "queued")
		q.Push(Key{Class: Call}, "call")
	}
	order := drain(&q, 120)
	for of, want := range map[string]int{"call": 80, "queued": 30, "batch": 10} {
		if got := count(order, of); got < want-1 || got > want+1 {
			t.Errorf("%s was served %d times of 120, expected %d", of, got, want)
		}
	}
}

func TestAClassThatWasIdleHasSavedNothingUp(t *testing.T) {
	var q Queue[string]
	for range 1000 {
		q.Push(Key{Class: Queued}, "queued")
	}
	drain(&q, 500)
	for range 100 {
		q.Push(Key{Class: Call}, "call")
	}
	if got := count(drain(&q, 11), "call"); got < 7 || got > 9 {
		t.Errorf("a class that became busy was served %d times of 11, expected 8", got)
	}
}

func TestTenantsTakeTurnsWhateverTheirCrowds(t *testing.T) {
	var q Queue[string]
	for range 1000 {
		q.Push(Key{Tenant: "crowd"}, "crowd")
	}
	drain(&q, 300)
	for range 5 {
		q.Push(Key{Tenant: "single"}, "single")
	}
	if got := drain(&q, 11); count(got, "single") != 5 {
		t.Errorf("the order was %v, expected that the tenants take turns", got)
	}
}

func TestASessionThatWasIdleGoesBeforeThoseThatAreServedAllTheTime(t *testing.T) {
	var q Queue[string]
	for n := range 3 {
		q.Push(Key{Tenant: "t"}, fmt.Sprintf("busy %d", n))
	}
	q.Push(Key{Tenant: "t", Fresh: true}, "idle")
	if got, want := drain(&q, 9), []string{"idle", "busy 0", "busy 1", "busy 2"}; !slices.Equal(got, want) {
		t.Errorf("the order was %v, expected %v", got, want)
	}
}

func TestWhatIsRemovedIsNotServed(t *testing.T) {
	var q Queue[string]
	a, b := q.Push(Key{}, "a"), q.Push(Key{Class: Queued, Tenant: "x"}, "b")
	q.Remove(a)
	q.Remove(a)
	if q.Len() != 1 || q.Of(Call) != 0 || q.Of(Queued) != 1 {
		t.Errorf("%d wait, calls %d, queued %d", q.Len(), q.Of(Call), q.Of(Queued))
	}
	if e := q.Next(); e != b {
		t.Errorf("next is %v", e)
	}
	q.Serve(b)
	if q.Next() != nil {
		t.Error("an empty queue has a next one")
	}
}

// TestEveryoneIsServedOnce drives a queue with any operations: each entry is served or removed once, and nobody waits for ever.
func TestEveryoneIsServedOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q Queue[int]
		waiting := map[int]*Entry[int]{}
		next := 0
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				k := Key{Class(rapid.IntRange(0, int(classes)-1).Draw(t, "class")), rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "tenant"), rapid.Bool().Draw(t, "fresh")}
				waiting[next] = q.Push(k, next)
				next++
			},
			"serve": func(t *rapid.T) {
				e := q.Next()
				if (e == nil) != (len(waiting) == 0) {
					t.Fatalf("next is %v while %d wait", e, len(waiting))
				}
				if e != nil {
					q.Serve(e)
					if waiting[e.Value] != e {
						t.Fatalf("%d was served and does not wait", e.Value)
					}
					delete(waiting, e.Value)
				}
			},
			"remove": func(t *rapid.T) {
				for n, e := range waiting {
					q.Remove(e)
					delete(waiting, n)
					return
				}
			},
			"": func(t *rapid.T) {
				n := 0
				q.All(func(*Entry[int]) bool { n++; return true })
				if q.Len() != len(waiting) || n != len(waiting) {
					t.Fatalf("%d wait, Len %d, All %d", len(waiting), q.Len(), n)
				}
			},
		})
	})
}
