package leader

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspex/dspex/internal/stream"
)

// key is the bucket with the one key of the lease.
type key struct {
	mu sync.Mutex
	stream.Entry
	away bool // the broker takes no write
}

func (k *key) Get(context.Context, string) (stream.Entry, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.Entry, nil
}

func (k *key) PutSync(_ string, value []byte, revision uint64, _ time.Duration) (uint64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.away:
		return 0, stream.ErrUnknown
	case revision != k.Revision:
		return 0, stream.ErrWrongRevision
	}
	k.Value, k.Exists, k.Revision = value, true, k.Revision+1
	return k.Revision, nil
}

func (k *key) holder() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return string(k.Value)
}

func (k *key) cut(away bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.away = away
}

// candidate is a dispatcher whose one task counts.
type candidate struct {
	*Leader
	running, started atomic.Int32
	stop             func()
}

func stand(t *testing.T, name string, of *key) *candidate {
	c := &candidate{Leader: New(name, slog.New(slog.DiscardHandler))}
	task := Task{Name: "count", Run: func(ctx context.Context) {
		c.started.Add(1)
		c.running.Add(1)
		<-ctx.Done()
		time.Sleep(time.Second) // what it was about
		if of.holder() == "" {
			t.Error("the lease was freed before the task had ended")
		}
		c.running.Add(-1)
	}}
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { c.Run(ctx, of, []Task{task}) })
	c.stop = func() { cancel(); done.Wait() }
	return c
}

// expect waits for whether the candidate leads.
func (c *candidate) expect(t *testing.T, leads bool, started int32) {
	t.Helper()
	synctest.Wait()
	running := int32(0)
	if leads {
		running = 1
	}
	if c.Leads() != leads {
		t.Errorf("leads: %t, want %t", c.Leads(), leads)
	}
	if n := c.running.Load(); n != running {
		t.Errorf("%d tasks run, want %d", n, running)
	}
	if n := c.started.Load(); n != started {
		t.Errorf("the task was started %d times, want %d", n, started)
	}
}

func TestTheTasksRunWhereTheLeaseIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		of := &key{}
		first := stand(t, "d1", of)
		first.expect(t, true, 1)
		second := stand(t, "d2", of)
		time.Sleep(3 * lifetime)
		first.expect(t, true, 1)
		second.expect(t, false, 0)
		first.stop() // it frees the lease
		first.expect(t, false, 1)
		time.Sleep(2 * tick)
		second.expect(t, true, 1)
		second.stop()
	})
}

func TestALeaderThatCannotRenewEndsItsTasksAndBeginsThemAnewWhenItLeadsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		of := &key{}
		c := stand(t, "d1", of)
		c.expect(t, true, 1)
		of.cut(true)
		time.Sleep(renewal + 2*time.Second)
		c.expect(t, false, 1)
		of.cut(false)
		time.Sleep(lifetime - 2*time.Second) // its own name is there, as any other's would be
		c.expect(t, false, 1)
		time.Sleep(4 * time.Second)
		c.expect(t, true, 2)
		c.stop()
	})
}

func TestAStepComesAtOnceAndAfterEachPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		steps := 0
		task := Every(time.Minute, slog.New(slog.DiscardHandler), "steps", func(context.Context) error {
			steps++
			return stream.ErrUnknown // the next step comes all the same
		})
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Second)
		defer cancel()
		task.Run(ctx)
		if steps != 3 {
			t.Errorf("%d steps in 150 s, want 3", steps)
		}
	})
}
