// Package affinity decides where sessions live: the partition of a session (the same hash as the broker's subject transform)
// and the plan that gives partitions to hosts with the fewest moves.
//
// Everything here is pure; the dispatcher carries plans out.
package affinity

import (
	"cmp"
	"hash/fnv"
	"slices"
)

// Partition is the partition of a session among n: FNV-1a, 32 bit, of the id, as the broker computes it.
func Partition(session string, n int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(session))
	return int(h.Sum32() % uint32(n))
}

// Host is a live host as the planner sees it.
type Host struct {
	Name     string
	Capacity int  // slots; hosts share the partitions in this proportion, at least 1
	Draining bool // gives everything away
	Unknown  bool // keeps what it holds, and is given nothing: its liveness is unknown
}

// Move gives a partition to a host.
type Move struct {
	Partition int
	From, To  string // From is empty for a partition that nobody holds
}

// Plan returns the moves that bring n partitions to their hosts: those without a live owner first, then from hosts over
// their share to hosts under it, idle partitions before busy ones. owners maps a partition to its host; busy reports how many
// jobs a partition has waiting or running. No more moves than needed; the same input gives the same plan.
func Plan(n int, hosts []Host, owners map[int]string, busy map[int]int) []Move {
	unknown := map[string]bool{}
	for _, h := range hosts {
		unknown[h.Name] = h.Unknown
	}
	movable := n
	for p := range n {
		if unknown[owners[p]] {
			movable--
		}
	}
	share := shares(movable, hosts)
	if len(share) == 0 {
		return nil
	}
	held := map[string][]int{}
	var free []int
	for p := range n {
		if unknown[owners[p]] {
			continue
		}
		if _, live := share[owners[p]]; live {
			held[owners[p]] = append(held[owners[p]], p)
		} else {
			free = append(free, p)
		}
	}
	names := make([]string, 0, len(share))
	for name := range share {
		names = append(names, name)
	}
	slices.Sort(names)
	var over []int
	for _, name := range names {
		mine := held[name]
		slices.SortFunc(mine, func(a, b int) int { return cmp.Or(cmp.Compare(busy[a], busy[b]), cmp.Compare(a, b)) })
		if extra := len(mine) - share[name]; extra > 0 {
			over = append(over, mine[:extra]...)
			held[name] = mine[extra:]
		}
	}
	var moves []Move
	for _, p := range append(free, over...) {
		for _, name := range names {
			if len(held[name]) < share[name] {
				held[name] = append(held[name], p)
				moves = append(moves, Move{Partition: p, From: owners[p], To: name})
				break
			}
		}
	}
	return moves
}

// shares divides n by capacity, largest remainder first; draining hosts get nothing, and unknown ones have no share. The shares
// add up to n.
func shares(n int, hosts []Host) map[string]int {
	total := 0
	for _, h := range hosts {
		if !h.Draining && !h.Unknown {
			total += max(h.Capacity, 1)
		}
	}
	if total == 0 {
		return nil
	}
	type part struct {
		name string
		rest int
	}
	share := map[string]int{}
	var parts []part
	left := n
	for _, h := range hosts {
		if h.Unknown {
			continue
		}
		if h.Draining {
			share[h.Name] = 0
			continue
		}
		c := max(h.Capacity, 1) * n
		share[h.Name] = c / total
		left -= c / total
		parts = append(parts, part{h.Name, c % total})
	}
	slices.SortFunc(parts, func(a, b part) int { return cmp.Or(cmp.Compare(b.rest, a.rest), cmp.Compare(a.name, b.name)) })
	for i := range left {
		share[parts[i%len(parts)].name]++
	}
	return share
}
