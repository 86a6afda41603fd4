// Package leader makes one dispatcher of a deployment the leader, and runs there what the leader alone does: a list of tasks.
package leader

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dspex/dspex/internal/clock"
)

// Task is what the leading dispatcher alone does.
type Task struct {
	Name string
	// Run works until ctx ends, which is when this dispatcher ends or no longer leads; it then returns soon. It is called once for
	// each time that this dispatcher leads, on a goroutine of its own, so what it keeps in local variables is of one such time.
	//
	// The lease is no fence: for a moment two dispatchers may act as the leader, and a frozen one thaws in the middle of a
	// write. So each write of a task is a compare-and-set, or one that does no harm twice.
	Run func(ctx context.Context)
}

// Every is a task of one step: it is taken at once, then after each pause. A step that fails is logged and comes again.
func Every(pause time.Duration, log *slog.Logger, name string, step func(ctx context.Context) error) Task {
	return Task{Name: name, Run: func(ctx context.Context) {
		for range clock.AtOnceAndEvery(ctx, pause) {
			if err := step(ctx); err != nil && ctx.Err() == nil {
				log.Warn("leader_task_failed", "task", name, "error", err)
			}
		}
	}}
}

// Leader is one dispatcher's part in the election.
type Leader struct {
	name  string
	log   *slog.Logger
	leads atomic.Bool
}

// New makes the part of the dispatcher of that name, which does not lead yet.
func New(name string, log *slog.Logger) *Leader { return &Leader{name: name, log: log} }

// Leads reports whether this dispatcher leads, by its own view.
func (l *Leader) Leads() bool { return l.leads.Load() }

// tick is the time between two looks at the lease.
const tick = 200 * time.Millisecond

// Run holds the lease when it can, and runs the tasks while it holds it. When ctx ends it ends the tasks, then frees the lease for
// the next dispatcher, and returns.
func (l *Leader) Run(ctx context.Context, bucket Bucket, tasks []Task) {
	lease := lease{bucket: bucket, name: l.name}
	end := func() {}
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		if err := lease.hold(ctx); err != nil {
			l.log.Debug("lease", "error", err)
		}
		if lease.holds != l.leads.Load() {
			l.leads.Store(lease.holds)
			if lease.holds {
				l.log.Info("leads", "dispatcher", l.name)
				end = start(ctx, tasks)
			} else {
				end()
				end = func() {}
			}
		}
		select {
		case <-ctx.Done():
			end()
			l.leads.Store(false)
			lease.free()
			return
		case <-t.C:
		}
	}
}

// start runs the tasks until end is called, which returns when all have returned.
func start(ctx context.Context, tasks []Task) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	for _, task := range tasks {
		running.Go(func() { task.Run(ctx) })
	}
	return func() {
		cancel()
		running.Wait()
	}
}
