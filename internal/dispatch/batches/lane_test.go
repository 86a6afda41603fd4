package batches

import (
	"fmt"
	"log/slog"
	"maps"
	"testing"

	"github.com/dspex/dspex/internal/fair"
	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/stream"
)

// divided is a leader on hosts with that many slots for jobs of the lane batch.
func divided(t *testing.T, accounts bool, slots int, weights fair.Weights) leader {
	t.Helper()
	on, err := stream.NewAccess(natstest.Connect(t, natstest.Run(t)), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	on.SetAccounts(accounts)
	return leader{New(Config{Broker: on, Slots: func() int { return slots }, Weights: func() fair.Weights { return weights }}).store}
}

// bounds divides the lane among batches, by key: what each wants. The tenant is the key's first letter.
func (s leader) bounds(wants map[string]int) map[string]int {
	all, most := map[string]*use{}, map[string]int{}
	for key, n := range wants {
		all[key] = &use{tenant: key[:1]}
		all[key].wants.Store(int64(n))
	}
	s.divide(all)
	for key, u := range all {
		most[key] = int(u.most.Load())
	}
	return most
}

// TestFewerJobsOfBatchesWaitInTheLaneThanThereAreSlots: with 8 slots 15 jobs are in the lane, of which 8 run. A single job behind the others is
// at its turn when each slot has become free once.
func TestFewerJobsOfBatchesWaitInTheLaneThanThereAreSlots(t *testing.T) {
	s := divided(t, true, 8, fair.Weights{"a": 3})
	for name, of := range map[string]struct{ wants, most map[string]int }{
		"one tenant":                {map[string]int{"a1": 640}, map[string]int{"a1": 15}},
		"a single job of another":   {map[string]int{"a1": 640, "b1": 1}, map[string]int{"a1": 14, "b1": 1}},
		"tenants by weight":         {map[string]int{"a1": 640, "b1": 640}, map[string]int{"a1": 11, "b1": 4}},
		"batches of one are equal":  {map[string]int{"a1": 640, "a2": 640, "b1": 640}, map[string]int{"a1": 5, "a2": 6, "b1": 4}},
		"what one does not want":    {map[string]int{"a1": 2, "b1": 640}, map[string]int{"a1": 2, "b1": 13}},
		"one without jobs for it":   {map[string]int{"a1": 0, "b1": 640}, map[string]int{"a1": 1, "b1": 15}},
		"a window that is small":    {map[string]int{"b1": 4}, map[string]int{"b1": 4}},
		"nobody has a batch at all": {map[string]int{}, map[string]int{}},
	} {
		if got := s.bounds(of.wants); !maps.Equal(got, of.most) {
			t.Errorf("%s: got %v, want %v", name, got, of.most)
		}
	}
}

func TestEachTenantHasAJobInTheLaneHoweverFewSlotsThereAre(t *testing.T) {
	for _, slots := range []int{0, 1, 3} {
		wants := map[string]int{}
		for n := range 20 {
			wants[fmt.Sprintf("%c1", 'a'+n)] = 64
		}
		for key, n := range divided(t, true, slots, nil).bounds(wants) {
			if n != 1 {
				t.Errorf("on %d slots %s may have %d jobs, expected 1", slots, key, n)
			}
		}
	}
}

func TestABrokerWithOneTenantHasNoBoundInTheLane(t *testing.T) {
	if got := divided(t, false, 2, nil).bounds(map[string]int{"a1": 640}); got["a1"] != 0 {
		t.Errorf("got %v, expected none", got)
	}
}
