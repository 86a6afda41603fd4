package host_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/host"
)

// aSecond is a job that takes a second.
var aSecond = func(ctx context.Context, _ frame.CallBody) (frame.Frame, error, bool) {
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case <-timer.C:
		return frame.Frame{}, nil, false
	case <-ctx.Done():
		return frame.Frame{}, ctx.Err(), true
	}
}

// hostWith adds a host with workers of its own.
func (y *system) hostWith(name string, p *pool, capacity int) (stop func()) {
	y.t.Helper()
	h, err := host.New(host.Config{Name: name, NC: y.connect(), Pool: p, Models: noModels{}, Capacity: capacity})
	if err != nil {
		y.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := h.Run(ctx); err != nil {
			y.t.Error(err)
		}
	})
	y.pass(10 * time.Second) // it has its share of the partitions, and has requested jobs
	return func() { cancel(); done.Wait() }
}

// runAll stores n anonymous jobs at once and returns how long they took together, in fake time, and the attempts of each.
func (y *system) runAll(n int) (took time.Duration, attempts []int) {
	y.t.Helper()
	began := time.Now()
	var ids []string
	for range n {
		r, err := y.nc.Request(subject(""), []byte(echo), 5*time.Second)
		var ack struct{ Seq uint64 }
		if err == nil {
			err = json.Unmarshal(r.Data, &ack)
		}
		if err != nil {
			y.t.Fatal(err)
		}
		ids = append(ids, fmt.Sprint("q", ack.Seq))
	}
	for _, id := range ids {
		o := y.end("", id)
		if o.Outcome != "succeeded" {
			y.t.Errorf("job %s: %+v", id, o)
		}
		attempts = append(attempts, o.Attempts)
	}
	return time.Since(began), attempts
}

func TestAnonymousJobsStartAtOnceInEveryFreeSlot(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		y.script(aSecond)
		if took, _ := y.runAll(8); !near(took, time.Second) {
			t.Errorf("8 jobs of 1 s in 8 slots took %v", took)
		}
	})
}

func TestAnonymousJobsStartAtOnceInEveryFreeSlotOfTwoHosts(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		y.script(aSecond)
		second := newPool(8)
		second.hook = aSecond
		defer y.hostWith("h2", second, 8)()
		if took, _ := y.runAll(16); !near(took, time.Second) {
			t.Errorf("16 jobs of 1 s in 16 slots took %v", took)
		}
		if n := second.runs.Load(); n != 8 {
			t.Errorf("%d of 16 jobs ran on the second host", n)
		}
	})
}

func TestASlotNeverIdlesBetweenAnonymousJobs(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		for range 7 { // one slot is left
			y.pool.slots <- struct{}{}
		}
		y.script(aSecond)
		if took, _ := y.runAll(5); !near(took, 5*time.Second) {
			t.Errorf("5 jobs of 1 s in 1 slot took %v", took)
		}
		for range 7 {
			<-y.pool.slots
		}
	})
}

func TestWhatCameForASlotThatASessionTookRunsAtOnceOnAnotherHost(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		second := newPool(8)
		defer y.hostWith("h2", second, 8)()
		for range 8 { // all are taken after the first host has requested jobs
			y.pool.slots <- struct{}{}
		}
		y.script(aSecond)
		second.mu.Lock()
		second.hook = aSecond
		second.mu.Unlock()
		took, attempts := y.runAll(8)
		if !near(took, time.Second) {
			t.Errorf("8 jobs of 1 s took %v", took)
		}
		for n, a := range attempts {
			if a != 1 {
				t.Errorf("job %d had %d attempts: one that was only passed on has none", n, a)
			}
		}
		if n := second.runs.Load(); n != 8 {
			t.Errorf("%d of 8 jobs ran on the host with free slots", n)
		}
		for range 8 {
			<-y.pool.slots
		}
	})
}
