package pyproc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspex/dspex/internal/pyproc/pace"
)

// working lists the names of the workers that take calls.
func (b *bench) working() []string {
	var all []string
	for _, w := range b.Stats().Workers {
		if w.State == Idle || w.State == Busy || w.State == Cancelling {
			all = append(all, w.Name)
		}
	}
	return all
}

func TestSpareStepsInWithoutAMomentsLoss(t *testing.T) {
	inBubble(t, Config{Size: 2, Spares: 1}, []string{"slots 1"}, func(t *testing.T, b *bench) {
		if got := b.state(2); got != Spare {
			t.Fatalf("got %s, want one worker in reserve", got)
		}
		b.fake.set("never ready") // whatever starts from here on is of no help
		victim, other := b.take(0), b.take(0)
		if _, err := victim.Call(t.Context(), callBody("exit", 1), nil); err == nil {
			t.Fatal("expected an error from a worker that exits")
		}
		if s := b.take(0); s.WorkerName() != "h/3" {
			t.Errorf("got %s, want the worker that was in reserve", s.WorkerName())
		}
		other.Release()
		if st := b.Stats(); st.Serving != 2 || st.Size != 2 {
			t.Errorf("got %+v, want 2 of 2 serving", st)
		}
	})
}

func TestWorkerIsReplacedWhenItIsDueAndItsReplacementComesFirst(t *testing.T) {
	for name, c := range map[string]struct {
		recycle Recycle
		make    func(b *bench)
	}{
		"age": {Recycle{Age: 5 * time.Minute, Jobs: -1}, func(*bench) { time.Sleep(6 * time.Minute) }},
		"jobs": {Recycle{Age: -1, Jobs: 10}, func(b *bench) {
			for range 12 {
				s := b.take(0)
				s.Call(b.t.Context(), callBody("echo", 0), nil)
				s.Release()
			}
			time.Sleep(pace.MinLife)
		}},
		"memory": {Recycle{Age: -1, Jobs: -1}, func(b *bench) { b.fake.own.Store(600 << 20); time.Sleep(3 * time.Second); b.fake.own.Store(0) }},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Config{Recycle: c.recycle}, nil, func(t *testing.T, b *bench) {
				first := b.take(0)
				held := make(chan error, 1)
				go func() { _, err := first.Call(t.Context(), callBody("hold", 0), nil); first.Release(); held <- err }()
				freer := b.take(first.WorkerID())
				c.make(b)
				time.Sleep(4 * time.Second)
				st := b.Stats()
				switch {
				case st.Recycled != 1:
					t.Fatalf("st.Recycled must be 1, got %v; got %+v, want the first draining and its replacement idle", st.Recycled, st)
				case b.state(0) != Draining:
					t.Fatalf("b.state(0) must be Draining, got %v; got %+v, want the first draining and its replacement idle", b.state(0), st)
				case len(st.Workers) != 2:
					t.Fatalf("len(st.Workers) must be 2, got %v; got %+v, want the first draining and its replacement idle", len(st.Workers), st)
				case b.state(1) != Idle:
					t.Fatalf("b.state(1) must be Idle, got %v; got %+v, want the first draining and its replacement idle", b.state(1), st)
				}
				if _, err := freer.Call(t.Context(), callBody("free", 0), nil); err != nil {
					t.Errorf("a call of a worker that drains: %v", err)
				}
				freer.Release()
				if err := <-held; err != nil {
					t.Errorf("the call that was in flight: %v", err)
				}
				synctest.Wait()
				if st := b.Stats(); b.state(0) != Empty || st.Serving != 1 || st.Workers[0].LastError != "" {
					t.Errorf("got %+v, want the first gone without error", st)
				}
			})
		})
	}
}

func TestWorkerThatIsDueServesOnWhileItsReplacementCannotStart(t *testing.T) {
	inBubble(t, Config{Recycle: Recycle{Age: 5 * time.Minute}}, nil, func(t *testing.T, b *bench) {
		b.fake.set("die on init")
		time.Sleep(20 * time.Minute)
		s, err := b.Checkout(t.Context(), 0)
		if err != nil || s.WorkerName() != "h/1" {
			t.Fatalf("got %v, want a slot of the old worker", err)
		}
		s.Release()
		b.fake.set("")
		time.Sleep(time.Minute)
		if st := b.Stats(); st.Recycled != 1 || st.Serving != 1 || !slices.Equal(b.working(), []string{"h/2"}) {
			t.Errorf("got %+v, want the replacement to serve at last", st)
		}
	})
}

func TestAtMostAQuarterIsReplacedAtOnceAndNoWorkerInItsFirstMinute(t *testing.T) {
	inBubble(t, Config{Size: 8, Recycle: Recycle{Jobs: 1, Age: -1}}, nil, func(t *testing.T, b *bench) {
		for _, s := range b.takeAll() {
			s.Call(t.Context(), callBody("echo", 0), nil)
			s.Release()
		}
		b.fake.set("never ready")
		time.Sleep(50 * time.Second)
		if st := b.Stats(); len(st.Workers) != 8 {
			t.Fatalf("got %d places in use in the first minute, want 8", len(st.Workers))
		}
		time.Sleep(30 * time.Second)
		if st := b.Stats(); len(st.Workers) != 10 || st.Serving != 8 {
			t.Errorf("got %d places in use with %d serving, want 2 replacements for the 8 that go on", len(st.Workers), st.Serving)
		}
	})
}

// takeAll takes every slot.
func (b *bench) takeAll() []*Slot {
	var all []*Slot
	for b.Free() > 0 {
		all = append(all, b.take(0))
	}
	return all
}

func TestHardMemoryLimitKillsAndSaysSo(t *testing.T) {
	inBubble(t, Config{}, nil, func(t *testing.T, b *bench) {
		s := b.take(0)
		b.fake.own.Store(2 << 30)
		_, err := s.Call(t.Context(), callBody("hold", 0), nil)
		b.fake.own.Store(0)
		var exit *ExitError
		var memory *MemoryError
		switch {
		case !errors.As(err, &memory):
			t.Errorf("must hold: errors.As(err, &memory); got %v, want the host's kill for 2 GiB", err)
		case memory.Own != 2<<30:
			t.Errorf("memory.Own must be 2<<30, got %v; got %v, want the host's kill for 2 GiB", memory.Own, err)
		case !errors.As(err, &exit):
			t.Errorf("must hold: errors.As(err, &exit); got %v, want the host's kill for 2 GiB", err)
		case exit.Signal != syscall.SIGKILL:
			t.Errorf("exit.Signal must be syscall.SIGKILL, got %v; got %v, want the host's kill for 2 GiB", exit.Signal, err)
		case exit.OutOfMemory():
			t.Errorf("must not hold: exit.OutOfMemory(); got %v, want the host's kill for 2 GiB", err)
		}
		s.Release()
		b.take(0).Release()
	})
}

func TestOverflowWorkersServeABurstAndLeave(t *testing.T) {
	inBubble(t, Config{Size: 1, Overflow: 1, OverflowIdle: time.Minute}, []string{"slots 1"}, func(t *testing.T, b *bench) {
		first := b.take(0)
		second := b.take(0) // starts at once
		if second.WorkerID() == first.WorkerID() || b.Stats().Serving != 2 {
			t.Fatal("expected a second worker")
		}
		third := make(chan *Slot, 1)
		go func() { third <- b.take(0) }()
		time.Sleep(2 * time.Minute)
		if len(third) != 0 || b.Stats().Serving != 2 {
			t.Fatal("got a third worker, want at most one in overflow, and that while there is need")
		}
		first.Release()
		(<-third).Release()
		time.Sleep(50 * time.Second)
		second.Release()
		if b.Stats().Serving != 2 {
			t.Error("the burst was over for 50 s only")
		}
		time.Sleep(70 * time.Second)
		if st := b.Stats(); st.Serving != 1 || len(st.Workers) != 1 || st.Workers[0].State != Idle {
			t.Errorf("got %+v, want the one worker that there was", st)
		}
	})
}

func TestOverflowLeavesAlsoWhenASessionKeepsItWarm(t *testing.T) {
	inBubble(t, Config{Size: 1, Overflow: 2}, []string{"slots 2"}, func(t *testing.T, b *bench) {
		held := []*Slot{b.take(0), b.take(0), b.take(0), b.take(0), b.take(0)}
		last := held[4].WorkerID()
		for _, s := range held {
			s.Release()
		}
		for range 200 { // one job at a time, always for the youngest worker
			s := b.take(last)
			time.Sleep(time.Second)
			s.Release()
		}
		if st := b.Stats(); st.Serving != 1 {
			t.Errorf("%d workers serve one job at a time, want 1", st.Serving)
		}
	})
}

func TestBasicWorkersArePingedNeverAndPreferredNever(t *testing.T) {
	inBubble(t, Config{Size: 2, Basic: true}, []string{"no pong"}, func(t *testing.T, b *bench) {
		time.Sleep(time.Hour)
		first := b.take(0)
		if s := b.take(first.WorkerID()); s.WorkerID() == first.WorkerID() {
			t.Error("got the preferred worker, want the least loaded one")
		}
		if st := b.Stats(); st.Workers[0].Restarts+st.Workers[1].Restarts != 0 {
			t.Errorf("got %+v, want two workers that never answered PING alive", st)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := first.Call(ctx, callBody("deaf", 0), nil)
		time.Sleep(time.Minute)
		if st := b.Stats(); !errors.Is(err, context.DeadlineExceeded) || st.Workers[0].Restarts != 1 {
			t.Errorf("got %v, %+v; want the hang found by the call's deadline", err, st)
		}
	})
}

func TestEdgesAreCounted(t *testing.T) {
	inBubble(t, Config{}, nil, func(t *testing.T, b *bench) {
		for range 3 {
			s := b.take(0)
			s.Release()
		}
		edges := map[string]uint64{}
		for _, e := range b.Stats().Edges {
			edges[e.From.String()+">"+e.To.String()] = e.N
		}
		want := map[string]uint64{"empty>spawning": 1, "spawning>handshake": 1, "handshake>warming": 1, "warming>idle": 1, "idle>busy": 3, "busy>idle": 3}
		if fmt.Sprint(edges) != fmt.Sprint(want) {
			t.Errorf("got %v\nwant %v", edges, want)
		}
	})
}

// TestPoolKeepsItsPromisesWhateverItsWorkersDo walks at random: calls that end, hang, kill, send BYE; workers that do not start; memory
// that grows; load that comes and goes. A seed repeats the choices.
func TestPoolKeepsItsPromisesWhateverItsWorkersDo(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { walk(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func walk(t *testing.T, rnd *rand.Rand) {
	cfg := Config{Size: 1 + rnd.IntN(4), Overflow: rnd.IntN(3), Spares: rnd.IntN(2), Basic: rnd.IntN(4) == 0,
		Recycle: Recycle{Jobs: 5 + rnd.IntN(50), Age: time.Duration(1+rnd.IntN(10)) * time.Minute}}
	inBubble(t, cfg, []string{"slots 2"}, func(t *testing.T, b *bench) {
		var callers sync.WaitGroup
		commands := []string{"echo", "echo", "echo", "hold", "deaf", "exit", "garbage", "bye", "answer and exit", "chunks", "freeze"}
		modes := []string{"slots 2", "slots 2", "slots 1", "no pong", "stubborn", "die on init", "exit at once", "cannot start"}
		for range 150 {
			switch rnd.IntN(13) {
			case 12:
				l := b.Limits()
				l.Size, l.Overflow = 1+rnd.IntN(4), rnd.IntN(3)
				if err := b.Adjust(l); err != nil {
					t.Fatal(err)
				}
				cfg.Size, cfg.Overflow = l.Size, l.Overflow
			case 0:
				b.fake.set(modes[rnd.IntN(len(modes))])
			case 1:
				b.fake.own.Store(uint64(rnd.IntN(1100)) << 20)
			case 2:
				b.fake.own.Store(0)
			default:
				command, patience := commands[rnd.IntN(len(commands))], time.Duration(rnd.IntN(20_000))*time.Millisecond
				var opts []Option
				if rnd.IntN(10) == 0 {
					opts = append(opts, Alone)
				}
				callers.Go(func() { b.try(command, patience, opts) })
			}
			time.Sleep(time.Duration(rnd.IntN(4000)) * time.Millisecond)
			st := b.Stats()
			if most := cfg.Size + cfg.Overflow; st.Serving > most {
				t.Fatalf("%d workers serve, at most %d may", st.Serving, most)
			}
		}
		b.fake.own.Store(0)
		b.fake.set("slots 2")
		callers.Wait() // every call ends
		time.Sleep(20 * time.Minute)
		st := b.Stats()
		if st.Serving != cfg.Size || st.Active != 0 || st.Waiting != 0 {
			t.Errorf("at rest: got %+v, want %d workers and nothing taken", st, cfg.Size)
		}
		if s, err := b.Checkout(t.Context(), 0, Alone); err != nil {
			t.Error(err)
		} else {
			s.Release()
		}
	})
}

// try makes one call with all the patience there is; how it ends is the worker's affair.
func (b *bench) try(command string, patience time.Duration, opts []Option) {
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	s, err := b.Checkout(ctx, 0, opts...)
	if err != nil {
		return
	}
	began := time.Now()
	s.Call(ctx, callBody(command, 1), func([]byte) {})
	if took := time.Since(began); took > patience {
		b.t.Errorf("%s: the call took %v of %v", command, took, patience)
	}
	s.Release()
}
