package pyproc

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspex/dspex/internal/programtest"
	"github.com/dspex/dspex/internal/pyproc/proc"
)

// fakeZygote forks the workers of a fake.
type fakeZygote struct {
	fake *fake
	err  error // of every fork
	dead chan struct{}
	once sync.Once

	mu    sync.Mutex
	ended []func() // of its workers
}

func (z *fakeZygote) fork(sp proc.Spec) (*proc.Child, error) {
	if z.err != nil {
		return nil, z.err
	}
	if proc.IsClosed(z.dead) {
		return nil, errZygoteGone
	}
	c, err := z.fake.start(context.Background(), proc.Spec{Env: []string{"DSPEX_NONCE=" + sp.Nonce}})
	if err != nil {
		return nil, err
	}
	reap := c.Reap
	c.Reap = func() proc.ExitStatus {
		status := reap()
		if proc.IsClosed(z.dead) {
			status.Why = errZygoteGone
		}
		return status
	}
	z.mu.Lock()
	z.ended = append(z.ended, func() { c.Signal(syscall.SIGKILL) })
	z.mu.Unlock()
	return c, nil
}

func (z *fakeZygote) gone() <-chan struct{} { return z.dead }

func (z *fakeZygote) close() {
	z.once.Do(func() { close(z.dead) })
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, end := range z.ended {
		end()
	}
}

// nursery opens fake zygotes and counts them.
type nursery struct {
	mu     sync.Mutex
	opened int
	takes  time.Duration
	err    error // of every opening
	fork   error // of every fork
	last   *fakeZygote
}

func (n *nursery) open(ctx context.Context, f *fake) (forker, error) {
	select {
	case <-time.After(n.takes):
	case <-ctx.Done():
		return nil, ErrStopped
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.opened++
	if n.err != nil {
		return nil, n.err
	}
	n.last = &fakeZygote{fake: f, err: n.fork, dead: make(chan struct{})}
	return n.last, nil
}

func (n *nursery) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.opened
}

// withZygotes runs do with a pool of fakes that zygotes fork; modes are those of the workers.
func withZygotes(t *testing.T, cfg Config, n *nursery, modes []string, do func(t *testing.T, b *bench)) string {
	h := &programtest.Lines{}
	cfg.Log = slog.New(h)
	var z *zygotes
	setUp = func(b *bench) {
		z = newZygotes(func(ctx context.Context) (forker, error) { return n.open(ctx, b.fake) }, b.fake.start, b.onlySpawn)
		b.useZygotes(z)
	}
	defer func() { setUp = func(*bench) {} }()
	inBubble(t, cfg, modes, func(t *testing.T, b *bench) {
		do(t, b)
		b.halt()
		z.close()
	})
	return strings.Join(h.All(), "\n")
}

func TestAllWorkersAreForkedFromOneZygote(t *testing.T) {
	n := &nursery{takes: 2 * time.Second}
	withZygotes(t, Config{Size: 20, Spares: 1}, n, nil, func(t *testing.T, b *bench) {
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if st := b.Stats(); st.Serving != 20 || len(st.Workers) != 20 || n.count() != 1 {
			t.Errorf("after one start: %d serve in %d places from %d zygotes, want 20, no spare, 1", st.Serving, len(st.Workers), n.count())
		}
	})
}

func TestDeathOfTheZygoteReplacesItAndItsWorkersOnce(t *testing.T) {
	n := &nursery{takes: time.Second}
	withZygotes(t, Config{Size: 4}, n, nil, func(t *testing.T, b *bench) {
		s := b.take(0)
		n.last.close()
		_, err := s.Call(t.Context(), callBody("hold", 0), nil)
		if !errors.Is(err, errZygoteGone) {
			t.Errorf("got %v, want the zygote named", err)
		}
		s.Release()
		time.Sleep(1500 * time.Millisecond)
		if st := b.Stats(); st.Serving != 4 || n.count() != 2 {
			t.Errorf("%d serve from %d zygotes, want 4 from the second", st.Serving, n.count())
		}
	})
}

func TestZygoteThatFailsInItsOwnWordsFailsEveryStartOnce(t *testing.T) {
	n := &nursery{takes: time.Second, err: &StartError{Worker: "h/zygote", Stage: Warming, Category: "initialization", Code: "import_failed", Message: "no module named dspy"}}
	withZygotes(t, Config{Size: 20}, n, nil, func(t *testing.T, b *bench) {
		err := b.Ready(t.Context())
		if err == nil || !strings.Contains(err.Error(), "no module named dspy") || strings.Count(err.Error(), "h/zygote") != 20 {
			t.Errorf("got %v, want the zygote's words for each worker", err)
		}
		if n.count() != 1 || b.fake.count() != 0 {
			t.Errorf("%d starts of a zygote, %d of a worker; want 1 and 0", n.count(), b.fake.count())
		}
		if b.zygotes.forking() == false {
			t.Error("a spawned worker would fail in the same way: expected no fall-back")
		}
	})
}

func TestWorkersAreSpawnedWhereForkingIsImpossible(t *testing.T) {
	for name, n := range map[string]*nursery{
		"the zygote has threads":     {fork: &refusedError{}},
		"the zygote dies in silence": {err: &StartError{Worker: "h/zygote", Stage: Warming, Err: &ExitError{Signal: syscall.SIGSEGV}}},
	} {
		t.Run(name, func(t *testing.T) {
			log := withZygotes(t, Config{Size: 3, Spares: 1}, n, nil, func(t *testing.T, b *bench) {
				if st := b.Stats(); st.Serving != 3 || len(st.Workers) != 4 || st.Workers[3].State != Spare {
					t.Errorf("got %+v, want three that serve and, as starts are slow, one in reserve", st)
				}
			})
			if strings.Count(log, "workers_not_forked") != 1 {
				t.Errorf("got log %q, want one warning", log)
			}
		})
	}
}

func TestWorkersAreSpawnedWhenForkedOnesDieBeforeTheyAreReady(t *testing.T) {
	n := &nursery{}
	modes := []string{"die on init", "die on init", "die on init", ""}
	log := withZygotes(t, Config{}, n, modes, func(t *testing.T, b *bench) {
		b.take(0).Release() // at the fourth start
		if b.zygotes.forking() {
			t.Error("expected no more forks after three that came to nothing")
		}
	})
	if !strings.Contains(log, "3 forked workers in a row") {
		t.Errorf("got log %q, want the reason", log)
	}
	modes = []string{"init error", "init error", "init error", "init error", ""}
	withZygotes(t, Config{}, n, modes, func(t *testing.T, b *bench) {
		b.take(0).Release()
		if !b.zygotes.forking() {
			t.Error("workers that say what is wrong would say so when spawned, too")
		}
	})
}

func TestStopWhileTheZygoteStarts(t *testing.T) {
	withZygotes(t, Config{Size: 3}, &nursery{takes: time.Hour}, nil, func(t *testing.T, b *bench) {
		began := time.Now()
		b.halt()
		if took := time.Since(began); took != 0 {
			t.Errorf("took %v, want no wait for the zygote", took)
		}
	})
}
