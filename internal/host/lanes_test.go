package host

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/dspex/dspex/internal/jobs"
)

func TestLanesAskForNoMoreThanIsFreeAndBatchLeavesASlot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		capacity := rapid.IntRange(1, 20).Draw(t, "capacity")
		l := lanesFor(capacity)
		asked, running := map[string]int{}, map[string]int{}
		lane := rapid.SampledFrom([]string{jobs.LaneInteractive, jobs.LaneBatch})
		sum := func(m map[string]int) int { return m[jobs.LaneInteractive] + m[jobs.LaneBatch] }
		t.Repeat(map[string]func(*rapid.T){
			"ask": func(t *rapid.T) { n := lane.Draw(t, "lane"); asked[n] += l.ask(n, capacity-sum(running)) },
			"seat": func(t *rapid.T) {
				n := lane.Draw(t, "lane")
				if asked[n] == 0 || sum(running) == capacity {
					return
				}
				asked[n]--
				running[n]++
				l.seated(1)
			},
			"end": func(t *rapid.T) {
				n := lane.Draw(t, "lane")
				if running[n] == 0 {
					return
				}
				running[n]--
				l.over(n, 1)
			},
			"press": func(t *rapid.T) { l.press(rapid.Bool().Draw(t, "waiting")) },
			"": func(t *rapid.T) {
				if sum(asked)+sum(running) > capacity {
					t.Fatalf("asked %v, running %v of %d", asked, running, capacity)
				}
				if capacity > 1 && asked[jobs.LaneBatch]+running[jobs.LaneBatch] >= capacity {
					t.Fatalf("batch jobs may take all of %d slots: asked %v, running %v", capacity, asked, running)
				}
			},
		})
	})
}

func TestAHostWithOneSlotServesBothLanes(t *testing.T) {
	l := lanesFor(1)
	if n := l.ask(jobs.LaneBatch, 1); n != 1 {
		t.Errorf("batch: %d", n)
	}
	l.seated(1)
	l.over(jobs.LaneBatch, 1)
	if n := l.ask(jobs.LaneInteractive, 1); n != 1 {
		t.Errorf("interactive: %d", n)
	}
}

func TestBatchJobsDoNotAskForTheLastFreeSlot(t *testing.T) {
	l := lanesFor(2)
	if n := l.ask(jobs.LaneBatch, 1); n != 0 {
		t.Errorf("batch asks for %d of 1 free slot while the other one is busy", n)
	}
	if n := l.ask(jobs.LaneInteractive, 1); n != 1 {
		t.Errorf("interactive: %d", n)
	}
}

func TestBatchJobsAskForOneSlotWhileInteractiveOnesWait(t *testing.T) {
	l := lanesFor(8)
	l.press(true)
	if n := l.ask(jobs.LaneBatch, 8); n != 1 {
		t.Errorf("the first: %d", n)
	}
	l.seated(1)
	if n := l.ask(jobs.LaneBatch, 7); n != 0 {
		t.Errorf("beside it: %d", n)
	}
	if n := l.ask(jobs.LaneInteractive, 7); n != 4 {
		t.Errorf("interactive: %d", n)
	}
	l.press(false)
	if n := l.ask(jobs.LaneBatch, 7); n != 2 {
		t.Errorf("afterwards: %d", n)
	}
}
