package host

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/stream"
)

// assignments is the host's view of who owns what, kept up by a watch.
type assignments struct {
	log     *slog.Logger
	watcher jetstream.KeyWatcher
	stop    context.CancelFunc // of the watch

	mu   sync.Mutex
	last []assignment
}

type assignment struct {
	owner   stream.Owner
	epoch   uint64
	changed chan struct{} // closed when a newer one is known
}

func newAssignments(ctx context.Context, js jetstream.JetStream, partitions int, log *slog.Logger) (*assignments, error) {
	kv, err := js.KeyValue(ctx, stream.Assign)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", stream.Assign, err)
	}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx)) // nats.go keeps a goroutine until it ends
	w, err := kv.Watch(watching, "p.*")
	if err != nil {
		stop()
		return nil, fmt.Errorf("watch %s: %w", stream.Assign, err)
	}
	a := &assignments{log: log, watcher: w, stop: stop, last: make([]assignment, partitions)}
	for n := range a.last {
		a.last[n].changed = make(chan struct{})
	}
	return a, nil
}

func (a *assignments) close() {
	_ = a.watcher.Stop() // the connection may be gone
	a.stop()
}

func (a *assignments) follow(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-a.watcher.Updates():
			if !ok {
				return
			}
			if e != nil {
				a.apply(e)
			}
		}
	}
}

func (a *assignments) apply(e jetstream.KeyValueEntry) {
	n, err := strconv.Atoi(strings.TrimPrefix(e.Key(), "p."))
	if err != nil || n < 0 || n >= len(a.last) {
		a.log.Warn("assignment_unknown", "key", e.Key())
		return
	}
	var owner stream.Owner // nobody, if the entry was deleted
	if e.Operation() == jetstream.KeyValuePut {
		if owner, err = stream.ParseOwner(e.Value()); err != nil {
			a.log.Error("assignment_unreadable", "key", e.Key(), "error", err)
			return
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if e.Revision() <= a.last[n].epoch {
		return
	}
	close(a.last[n].changed)
	a.last[n] = assignment{owner: owner, epoch: e.Revision(), changed: make(chan struct{})}
}

func (a *assignments) get(n int) assignment {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last[n]
}

// any reports whether f is true of a host that owns a partition.
func (a *assignments) any(f func(host string) bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.ContainsFunc(a.last, func(p assignment) bool { return p.owner.Host != "" && f(p.owner.Host) })
}
