package ownership

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/stream"
)

// served is what a keeper has something served by.
type served struct {
	t        *testing.T
	mu       sync.Mutex
	owned    map[int]*Ownership
	begun    chan int         // partitions whose epoch begins
	subjects map[int][]string // of their epochs
}

func (s *served) serve(o *Ownership) Service {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owned[o.N] = o
	return one{s, o.N}
}

type one struct {
	*served
	n int
}

func (o one) Epoch(ctx context.Context, _ uint64, subjects []string) error {
	o.mu.Lock()
	o.subjects[o.n] = subjects
	owned := o.owned[o.n]
	o.mu.Unlock()
	o.begun <- o.n
	select {
	case <-ctx.Done():
	case <-owned.Work.Done():
	}
	return nil
}

func (one) Cut()                       {}
func (one) RunsBeyond(clock.Mono) bool { return false }

func (s *served) await(n int) {
	s.t.Helper()
	for limit := time.After(30 * time.Second); ; {
		select {
		case got := <-s.begun:
			if got == n {
				return
			}
			s.t.Errorf("partition %d is served, want %d", got, n)
		case <-limit:
			s.t.Fatalf("partition %d is not served", n)
		}
	}
}

// TestNothingOfAnotherLayoutIsServedWhileSomethingOfTheOneBeforeRuns: the partition was taken away, as from a host that does not answer, and
// one that has its sessions, too, is given to the same host.
func TestNothingOfAnotherLayoutIsServedWhileSomethingOfTheOneBeforeRuns(t *testing.T) {
	nc := natstest.Connect(t, natstest.Run(t))
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Ensure(t.Context(), js, stream.Settings{JobsBytes: 64 << 20, ResultsBytes: 64 << 20, DeadBytes: 64 << 20}); err != nil {
		t.Fatal(err)
	}
	on, err := stream.Open(t.Context(), nc, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s := &served{t: t, owned: map[int]*Ownership{}, begun: make(chan int, 16), subjects: map[int][]string{}}
	ctx, stop := context.WithCancel(t.Context())
	k := New(ctx, on, "h", "h-1", time.Second, s.serve)
	var runs sync.WaitGroup
	runs.Go(func() { k.Follow(ctx) })
	runs.Go(func() { k.Run(ctx) })
	t.Cleanup(func() { stop(); runs.Wait(); on.Close() })
	assign := func(n int, l stream.Layout) uint64 {
		t.Helper()
		epoch, err := on.Claims.Write(jobs.AssignmentKey(n), stream.OwnerIn(l, "h", "h-1"), 0)
		if err != nil {
			t.Fatal(err)
		}
		return epoch
	}
	before, after := stream.Layout{Token: stream.FirstLayout, Shards: 64, Partitions: 64}, stream.Layout{Token: stream.FirstLayout, Shards: 64, Partitions: 16}
	epoch := assign(17, before)
	s.await(17)
	s.mu.Lock()
	old := s.owned[17]
	s.mu.Unlock()
	old.Running.Add(1) // an attempt
	if _, err := on.Assign.Delete(jobs.AssignmentKey(17), epoch); err != nil {
		t.Fatal(err)
	}
	<-old.Work.Done()
	assign(1, after)  // has shard 17
	assign(2, before) // as long as something of its own layout runs it may
	s.await(2)
	old.Running.Done()
	if _, err := on.Assign.Delete(jobs.AssignmentKey(2), k.assigned.get(2).epoch); err != nil {
		t.Fatal(err)
	}
	s.await(1)
	if got := s.subjects[1]; len(got) != 4 || got[1] != "dspex.p.17.>" {
		t.Errorf("partition 1 is served by %v", got)
	}
}
