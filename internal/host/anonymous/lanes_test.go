package anonymous

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/dspex/dspex/internal/fair"
	"github.com/dspex/dspex/internal/jobs"
)

var bothLanes = rapid.SampledFrom([]string{jobs.LaneInteractive, jobs.LaneBatch})

// laneModel is a host whose anonymous jobs are the only ones.
type laneModel struct {
	*lanes
	capacity  int
	requested map[string]int
	inPool    map[string][]*arrival
	entering  map[string][]*arrival
}

func (m *laneModel) room() room {
	return room{free: m.capacity - len(m.inPool[jobs.LaneInteractive]) - len(m.inPool[jobs.LaneBatch])}
}

func (m *laneModel) here(lane string) int { return len(m.inPool[lane]) + len(m.entering[lane]) }

func TestLanesAskForWhatIsFreeAndAdmitNoMoreAndBatchLeavesASlot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		capacity := rapid.IntRange(1, 80).Draw(t, "capacity")
		m := &laneModel{lanesFor(capacity), capacity, map[string]int{}, map[string][]*arrival{}, map[string][]*arrival{}}
		t.Repeat(map[string]func(*rapid.T){
			"ask": func(t *rapid.T) {
				n := bothLanes.Draw(t, "lane")
				m.requested[n] += m.request(n, m.room())
				free := m.room().free - m.lanes.entering
				if n == jobs.LaneInteractive && free > 0 && m.requested[n] == 0 {
					t.Fatalf("%d slots are free, and nothing is asked for", free)
				}
			},
			"come": func(t *rapid.T) {
				n := bothLanes.Draw(t, "lane")
				if m.requested[n] == 0 {
					return
				}
				m.requested[n]--
				if a := m.arrive(n); a.admit(m.room(), false) {
					m.entering[n] = append(m.entering[n], a)
				}
			},
			"seat": func(t *rapid.T) {
				n := bothLanes.Draw(t, "lane")
				if l := m.entering[n]; len(l) > 0 {
					l[0].enterPool()
					m.entering[n], m.inPool[n] = l[1:], append(m.inPool[n], l[0])
				}
			},
			"end": func(t *rapid.T) {
				n := bothLanes.Draw(t, "lane")
				if l := m.inPool[n]; len(l) > 0 {
					l[0].leave()
					m.inPool[n] = l[1:]
				}
			},
			"press": func(t *rapid.T) { m.press(rapid.Bool().Draw(t, "waiting")) },
			"": func(t *rapid.T) {
				if all := m.here(jobs.LaneInteractive) + m.here(jobs.LaneBatch); all > capacity {
					t.Fatalf("%d jobs are here for %d slots", all, capacity)
				}
				if batch := m.here(jobs.LaneBatch); capacity > 1 && batch > capacity-max(fair.Reserve(capacity), 1) {
					t.Fatalf("batch jobs have %d of %d slots", batch, capacity)
				}
			},
		})
	})
}

func TestAHostWithOneSlotServesBothLanes(t *testing.T) {
	l := lanesFor(1)
	if n := l.request(jobs.LaneBatch, room{free: 1}); n != 1 {
		t.Errorf("batch: %d", n)
	}
	l.missed(jobs.LaneBatch, 1)
	if n := l.request(jobs.LaneInteractive, room{free: 1}); n != 1 {
		t.Errorf("interactive: %d", n)
	}
}

func TestBatchJobsDoNotAskForTheLastFreeSlotUnlessNoneOfThemRunsWhileOthersWait(t *testing.T) {
	l := lanesFor(2)
	if n := l.request(jobs.LaneBatch, room{free: 1}); n != 0 {
		t.Errorf("batch asks for %d of 1 free slot while the other one is busy", n)
	}
	if n := l.request(jobs.LaneInteractive, room{free: 1}); n != 1 {
		t.Errorf("interactive: %d", n)
	}
	l.press(true)
	if n := l.request(jobs.LaneBatch, room{free: 1}); n != 1 {
		t.Errorf("batch, while interactive jobs wait and no batch job runs: %d", n)
	}
}

func TestBatchJobsAskForOneSlotWhileInteractiveOnesWait(t *testing.T) {
	l := lanesFor(8)
	l.press(true)
	if n := l.request(jobs.LaneBatch, room{free: 8}); n != 1 {
		t.Errorf("the first: %d", n)
	}
	first := l.arrive(jobs.LaneBatch)
	if !first.admit(room{free: 8}, false) {
		t.Fatal("the first is not admitted")
	}
	first.enterPool()
	if n := l.request(jobs.LaneBatch, room{free: 7}); n != 0 {
		t.Errorf("beside it: %d", n)
	}
	if n := l.request(jobs.LaneInteractive, room{free: 7}); n != 7 {
		t.Errorf("interactive: %d", n)
	}
	l.press(false)
	if n := l.request(jobs.LaneBatch, room{free: 7}); n != 6 {
		t.Errorf("afterwards: %d", n)
	}
}

func TestOverflowIsForInteractiveJobsAndOnlyWhereNothingIsFree(t *testing.T) {
	l := lanesFor(2)
	if n := l.request(jobs.LaneInteractive, room{allowed: 4}); n != 4 {
		t.Errorf("interactive: %d", n)
	}
	if n := l.request(jobs.LaneBatch, room{allowed: 4}); n != 0 {
		t.Errorf("batch: %d", n)
	}
	for n := range 4 {
		if !l.arrive(jobs.LaneInteractive).admit(room{allowed: 4}, false) {
			t.Errorf("job %d is not admitted", n)
		}
	}
	if l.arrive(jobs.LaneInteractive).admit(room{allowed: 4}, false) {
		t.Error("a fifth is admitted to four slots")
	}
}

func TestFewRequestsWaitAtTheBroker(t *testing.T) {
	l, requests := lanesFor(64), 0
	for free := range 65 { // slots come free one by one, and no job comes
		if l.request(jobs.LaneInteractive, room{free: free}) > 0 {
			requests++
		}
	}
	if requests > 8 {
		t.Errorf("%d requests for 64 slots", requests)
	}
}
