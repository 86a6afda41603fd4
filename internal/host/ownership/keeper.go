// Package ownership decides which partitions this host serves: it follows the assignments, takes what they name it for, epoch after
// epoch, and gives it back. It is independent of what is served there.
package ownership

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// retake is the pause before a partition is taken again after a failure.
const retake = 500 * time.Millisecond

// Service serves the sessions of a partition while this host owns it.
type Service interface {
	// Epoch serves the jobs of some subjects for one epoch, until ctx ends or the epoch is lost. Jobs that run go on.
	Epoch(ctx context.Context, epoch uint64, subjects []string) error
	// Cut ends all work, of earlier epochs too.
	Cut()
	// RunsBeyond reports whether a running attempt may last longer than until then.
	RunsBeyond(then clock.Mono) bool
}

// Keeper takes and gives back the partitions of a host. Make it with New, then Run it once.
type Keeper struct {
	host, incarnation string
	grace             time.Duration // of running jobs when the host stops
	on                *stream.Access
	work              context.Context // its end cancels running jobs
	serve             func(*Ownership) Service
	assigned          *assignments
	owned             sync.Map // int -> *Ownership: those that are held, or whose last jobs still run
	stopping          atomic.Bool
}

// New makes the keeper of a host. serve makes what serves a partition.
func New(work context.Context, on *stream.Access, host, incarnation string, grace time.Duration, serve func(*Ownership) Service) *Keeper {
	return &Keeper{host: host, incarnation: incarnation, grace: grace, on: on, work: work, serve: serve, assigned: newAssignments(on.Log)}
}

// Follow keeps up with the assignments until ctx ends.
func (k *Keeper) Follow(ctx context.Context) {
	k.on.Follow(ctx, stream.Assign, jobs.AssignmentKeys, k.assigned.apply)
}

// Stop reports that the host is leaving: what is assigned to it from now on is given back at once.
func (k *Keeper) Stop() { k.stopping.Store(true) }

// HighestEpoch is the highest epoch that was ever seen.
func (k *Keeper) HighestEpoch() uint64 { return k.assigned.seen() }

// AnyHost reports whether f is true of a host that owns a partition.
func (k *Keeper) AnyHost(f func(host string) bool) bool { return k.assigned.any(f) }

// Run takes every partition that is assigned to this host, until ctx ends, and returns when all of them are given back.
func (k *Keeper) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case n := <-k.assigned.found:
			wg.Go(func() { k.tend(ctx, n) })
		}
	}
}

// tend owns partition n whenever the assignment names this host.
func (k *Keeper) tend(ctx context.Context, n int) {
	var used uint64
	for ctx.Err() == nil {
		a := k.assigned.get(n)
		if a.owner.Host != k.host {
			Wait(ctx, a.changed, 0)
			continue
		}
		if t := k.otherwise(a.owner); t != nil { // its sessions may be those of this partition
			Wait(ctx, t.ended, 0)
			continue
		}
		used = k.own(ctx, n, a.owner, used)
		if k.giveBack(ctx, n, used) {
			Wait(ctx, a.changed, retake)
		}
	}
}

// Ownership is the time in which a partition is assigned to this host without a break. It may last for several epochs: each
// loss of the consumer begins a new one. Running jobs outlive an epoch, since the record decides about their outcome; they
// end with the ownership.
type Ownership struct {
	N       int             // of the partition
	Work    context.Context // its end cancels running jobs
	Fence   context.CancelCauseFunc
	Running sync.WaitGroup // what the ownership waits for

	k      *Keeper
	as     stream.Owner  // its layout does not change
	ended  chan struct{} // closed when nothing of it runs
	served Service
	leave  context.CancelFunc // stops new work: the partition is released when its running jobs have ended
}

// Moved returns the newest epoch of the partition, and what is closed when there is a newer one.
func (t *Ownership) Moved() (epoch uint64, changed <-chan struct{}) {
	a := t.k.assigned.get(t.N)
	return a.epoch, a.changed
}

// names reports whether an entry is this ownership's: of this host, and of a partition with the same sessions.
func (t *Ownership) names(o stream.Owner) bool { return o.Host == t.k.host && o.Same(t.as) }

// otherwise is an ownership of a partition of another layout, nil if there is none.
func (k *Keeper) otherwise(as stream.Owner) (found *Ownership) {
	k.owned.Range(func(_, value any) bool {
		if t := value.(*Ownership); !t.as.Same(as) {
			found = t
		}
		return found == nil
	})
	return found
}

// own serves partition n, epoch after epoch, until it is assigned to another host, it is to be released or ctx ends. used is
// the last epoch that this host has used; own returns the new one. It returns when everything that it started has ended.
func (k *Keeper) own(ctx context.Context, n int, as stream.Owner, used uint64) uint64 {
	t := &Ownership{N: n, k: k, as: as, ended: make(chan struct{})}
	t.Work, t.Fence = context.WithCancelCause(k.work)
	ctx, t.leave = context.WithCancel(ctx)
	defer t.leave()
	t.served = k.serve(t)
	defer context.AfterFunc(t.Work, t.served.Cut)()
	k.owned.Store(n, t)
	defer k.owned.Delete(n)
	var guard sync.WaitGroup
	guard.Go(t.guard)
	for ctx.Err() == nil && t.Work.Err() == nil {
		a := k.assigned.get(n)
		if !t.names(a.owner) {
			break
		}
		epoch := a.epoch
		if a.owner.Incarnation != k.incarnation || epoch <= used {
			// Whatever ended the consumer, and at every start: taking again is a new epoch.
			again := a.owner
			again.Incarnation = k.incarnation
			e, err := k.on.Claims.Write(jobs.AssignmentKey(n), again, max(epoch, used))
			if err != nil {
				Wait(t.Work, a.changed, retake)
				continue
			}
			epoch = e
		}
		used = epoch
		if err := t.served.Epoch(ctx, epoch, a.owner.Filters(n)); err != nil && ctx.Err() == nil {
			k.on.Log.Warn("partition_epoch_ends", "partition", n, "epoch", epoch, "error", err)
			Wait(t.Work, nil, retake)
		}
	}
	t.Running.Wait()
	t.Fence(nil)
	close(t.ended)
	guard.Wait()
	return used
}

// guard cancels the work as soon as the partition is assigned to another host, also while a leaving host finishes its jobs.
func (t *Ownership) guard() {
	for {
		a := t.k.assigned.get(t.N)
		if !t.names(a.owner) && a.epoch > 0 {
			t.Fence(stream.ErrNotMine)
			return
		}
		select {
		case <-t.ended:
			return
		case <-t.Work.Done():
			return
		case <-a.changed:
		}
	}
}

// giveBack releases a partition that still names this host. It reports whether it did.
func (k *Keeper) giveBack(ctx context.Context, n int, epoch uint64) bool {
	if epoch == 0 || k.assigned.get(n).owner.Host != k.host {
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stream.AckTimeout)
	defer cancel()
	err := k.on.Claims.Release(ctx, stream.Consumer{Key: jobs.AssignmentKey(n), Name: jobs.ConsumerName(n, epoch), Epoch: epoch})
	switch {
	case err == nil:
		k.on.Log.Info("partition_released", "partition", n, "epoch", epoch)
	case !errors.Is(err, stream.ErrNotMine):
		k.on.Log.Warn("partition_not_released", "partition", n, "epoch", epoch, "error", err)
	}
	return err == nil
}
