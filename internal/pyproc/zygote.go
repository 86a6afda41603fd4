package pyproc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/dspex/dspex/internal/pyproc/proc"
)

// forker is a zygote that lives: a process that forks workers from itself.
type forker interface {
	// fork makes one worker. A *refusedError means that it never will; other errors, that the zygote has come to its end, and
	// with it all its workers.
	fork(sp proc.Spec) (*proc.Child, error)
	// gone is closed when it can fork no more.
	gone() <-chan struct{}
	// close ends the zygote, and the workers that it has left, and waits for that.
	close()
}

// refusedError reports why a zygote must not fork.
type refusedError struct{ reported }

// errZygoteGone is why workers die that were well.
var errZygoteGone = errors.New("pyproc: the zygote has ended, and with it the workers that it had forked")

// maxBarren is how many forked workers in a row may die before READY, without a word of their own, before forking counts
// as what kills them.
const maxBarren = 3

// zygotes starts workers by forking them from a zygote, which is started when the first is needed and again after its death.
// When forking turns out to be impossible here, workers are spawned one by one instead, permanently.
type zygotes struct {
	open  func(context.Context) (forker, error)
	spawn func(context.Context, proc.Spec) (*proc.Child, error)
	off   func(why error) // called once, when workers are spawned from then on

	spawning atomic.Bool
	turn     chan struct{} // capacity 1: whoever holds it may start a zygote

	mu      sync.Mutex
	current forker
	tries   int   // starts of a zygote
	failure error // of the last one, nil if it went well
	barren  int   // forked workers in a row that did not come to READY
}

func newZygotes(open func(context.Context) (forker, error), spawn func(context.Context, proc.Spec) (*proc.Child, error), off func(error)) *zygotes {
	return &zygotes{open: open, spawn: spawn, off: off, turn: make(chan struct{}, 1)}
}

// start makes one worker. A zygote that has just died is no failure of it: it tries once more with the next.
func (z *zygotes) start(ctx context.Context, sp proc.Spec) (*proc.Child, error) {
	c, err := z.fork(ctx, sp)
	if errors.Is(err, errZygoteGone) && ctx.Err() == nil {
		c, err = z.fork(ctx, sp)
	}
	if why := z.hopeless(ctx, err); why != nil {
		z.giveUp(why)
	}
	if z.spawning.Load() && c == nil {
		return z.spawn(ctx, sp)
	}
	return c, err
}

func (z *zygotes) fork(ctx context.Context, sp proc.Spec) (*proc.Child, error) {
	if z.spawning.Load() {
		return nil, nil
	}
	f, err := z.living(ctx)
	if err != nil {
		return nil, err
	}
	c, err := f.fork(sp)
	if errors.Is(err, errZygoteGone) {
		<-f.gone() // it will not be met again
	}
	return c, err
}

// hopeless reports why forking will never work here; nil if err is no evidence of that.
func (z *zygotes) hopeless(ctx context.Context, err error) error {
	_, refused := errors.AsType[*refusedError](err)
	start, failed := errors.AsType[*StartError](err)
	// A zygote that died or hung and reported nothing: a spawned worker will work, or report more.
	silent := failed && start.Category == "" && !isVersion(err)
	if ctx.Err() == nil && (refused || silent) {
		return err
	}
	return nil
}

func (z *zygotes) giveUp(why error) {
	if z.spawning.CompareAndSwap(false, true) {
		z.off(why)
	}
}

// living returns the zygote, and starts it if there is none. All who wait for a start share its failure.
func (z *zygotes) living(ctx context.Context) (forker, error) {
	tries := z.triesSoFar()
	select {
	case z.turn <- struct{}{}:
		defer func() { <-z.turn }()
	case <-ctx.Done():
		return nil, ErrStopped
	}
	z.mu.Lock()
	current, failure, again := z.current, z.failure, z.tries != tries
	z.mu.Unlock()
	switch {
	case current != nil && !proc.IsClosed(current.gone()):
		return current, nil
	case current == nil && again && failure != nil:
		return nil, failure
	case current != nil:
		current.close()
	}
	f, err := z.open(ctx)
	z.mu.Lock()
	defer z.mu.Unlock()
	z.current, z.failure = f, err
	z.tries++
	return f, err
}

func (z *zygotes) triesSoFar() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.tries
}

// note reports how the start of a worker went on: to READY, or to a death without a word of its own.
func (z *zygotes) note(ready bool) {
	if z == nil || z.spawning.Load() {
		return
	}
	z.mu.Lock()
	if z.barren++; ready {
		z.barren = 0
	}
	tooMany := z.barren >= maxBarren
	z.mu.Unlock()
	if tooMany {
		z.giveUp(fmt.Errorf("%d forked workers in a row died before they were ready", maxBarren))
	}
}

// forking reports whether workers are forked.
func (z *zygotes) forking() bool { return z != nil && !z.spawning.Load() }

// close ends the zygote. No start may run.
func (z *zygotes) close() {
	z.mu.Lock()
	current := z.current
	z.mu.Unlock()
	if current != nil {
		current.close()
	}
}
