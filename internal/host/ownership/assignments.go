package ownership

import (
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/dspex/dspex/internal/stream"
)

// assignments is the host's view of who owns what, kept up by a watch.
type assignments struct {
	log   *slog.Logger
	found chan int // partitions that are seen for the first time

	mu      sync.Mutex
	last    []assignment // by partition
	highest uint64       // epoch that was ever seen
}

type assignment struct {
	owner   stream.Owner
	epoch   uint64
	changed chan struct{} // closed when a newer one is known
}

// mostPartitions bounds what an assignment's key can make the host keep.
const mostPartitions = 4096

func newAssignments(log *slog.Logger) *assignments {
	return &assignments{log: log, found: make(chan int, mostPartitions)}
}

// apply takes an entry that is newer than what is known.
func (a *assignments) apply(key string, e stream.Entry) {
	n, err := strconv.Atoi(strings.TrimPrefix(key, "p."))
	if err != nil || n < 0 || n >= mostPartitions {
		a.log.Warn("assignment_unknown", "key", key)
		return
	}
	var owner stream.Owner // nobody, if the entry was deleted
	if e.Exists {
		if owner, err = stream.ParseOwner(e.Value); err != nil {
			a.log.Error("assignment_unreadable", "key", key, "error", err)
			return
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.highest = max(a.highest, e.Revision)
	for len(a.last) <= n {
		a.found <- len(a.last) // each fits once
		a.last = append(a.last, assignment{changed: make(chan struct{})})
	}
	if e.Revision <= a.last[n].epoch {
		return
	}
	close(a.last[n].changed)
	a.last[n] = assignment{owner: owner, epoch: e.Revision, changed: make(chan struct{})}
}

// get is what is known of a partition that was found.
func (a *assignments) get(n int) assignment {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n >= len(a.last) {
		return assignment{}
	}
	return a.last[n]
}

// seen is the highest epoch that was ever seen.
func (a *assignments) seen() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.highest
}

// any reports whether f is true of a host that owns a partition.
func (a *assignments) any(f func(host string) bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.ContainsFunc(a.last, func(p assignment) bool { return p.owner.Host != "" && f(p.owner.Host) })
}
