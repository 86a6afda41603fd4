package affinity

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

func TestEveryPartitionHasALiveHostAndSharesFollowCapacity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 64).Draw(t, "partitions")
		var hosts []Host
		total := 0
		for i := range rapid.IntRange(1, 6).Draw(t, "hosts") {
			h := Host{Name: fmt.Sprint("h", i), Capacity: rapid.IntRange(1, 200).Draw(t, "capacity")}
			total += h.Capacity
			hosts = append(hosts, h)
		}
		owners := map[int]string{}
		for p := range n {
			owners[p] = rapid.SampledFrom([]string{"", "gone", "h0", "h1"}).Draw(t, "owner")
		}
		after, count := apply(n, hosts, owners)
		for p := range n {
			count[after[p]]++
		}
		for _, h := range hosts {
			if exact := float64(n*h.Capacity) / float64(total); float64(count[h.Name]) < exact-1 || float64(count[h.Name]) > exact+1 {
				t.Fatalf("%s has %d of %d, its share is %.2f", h.Name, count[h.Name], n, exact)
			}
		}
		if again := Plan(n, hosts, after, nil); len(again) != 0 {
			t.Fatalf("a second plan moves again: %v", again)
		}
	})
}

func apply(n int, hosts []Host, owners map[int]string) (map[int]string, map[string]int) {
	after := map[int]string{}
	for p := range n {
		after[p] = owners[p]
	}
	for _, m := range Plan(n, hosts, owners, nil) {
		after[m.Partition] = m.To
	}
	return after, map[string]int{}
}

func TestAJoiningHostMovesOnlyItsShareAndIdlePartitionsFirst(t *testing.T) {
	owners, busy := map[int]string{}, map[int]int{}
	for p := range 8 {
		owners[p] = "a"
		busy[p] = p % 2 // odd ones work
	}
	moves := Plan(8, []Host{{Name: "a", Capacity: 1}, {Name: "b", Capacity: 1}}, owners, busy)
	if len(moves) != 4 {
		t.Fatalf("%d moves, want 4: %v", len(moves), moves)
	}
	for _, m := range moves {
		if busy[m.Partition] != 0 || m.From != "a" || m.To != "b" {
			t.Errorf("move %+v", m)
		}
	}
}

func TestADrainingHostGivesEverythingAway(t *testing.T) {
	owners := map[int]string{0: "a", 1: "a", 2: "b", 3: "b"}
	moves := Plan(4, []Host{{Name: "a", Capacity: 1, Draining: true}, {Name: "b", Capacity: 1}}, owners, nil)
	if len(moves) != 2 || moves[0].To != "b" || moves[1].To != "b" {
		t.Errorf("%v", moves)
	}
	if moves := Plan(4, []Host{{Name: "a", Draining: true}}, owners, nil); moves != nil {
		t.Errorf("nobody to give to: %v", moves)
	}
}

func TestWhatAnUnheardHostHoldsStaysAndTheOthersShareTheRest(t *testing.T) {
	hosts := []Host{{Name: "a", Capacity: 1}, {Name: "b", Capacity: 1}, {Name: "silent", Unknown: true}}
	owners, moved := map[int]string{}, map[string]int{}
	for p := range 12 {
		owners[p] = []string{"a", "silent", "silent", ""}[p%4]
	}
	for _, m := range Plan(12, hosts, owners, nil) {
		if moved[m.To]++; m.From != "" {
			t.Errorf("%+v", m)
		}
	}
	if moved["b"] != 3 || len(moved) != 1 {
		t.Errorf("of 12 partitions 6 are held by a host that is not heard and 3 by a: b gets the 3 that nobody holds, got %v", moved)
	}
	if moves := Plan(12, hosts[2:], owners, nil); moves != nil {
		t.Errorf("nobody else is there: %v", moves)
	}
}
