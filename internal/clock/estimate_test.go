package clock

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// look is one observation: the broker sent stamp (seconds after noon), requested at before, answered at after (seconds).
type look struct{ stamp, before, after float64 }

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func TestWhatTheBrokersTimeAndAnAgeIsFromWhatWasObserved(t *testing.T) {
	type age struct{ stamp, is float64 }
	for name, c := range map[string]struct {
		looks  []look
		now    float64 // monotonic
		at     float64 // broker's time
		within float64
		eras   int
		ages   []age
	}{
		"one, by half of its round trip": {[]look{{100, 10, 12}}, 20, 109, 2, 1, []age{{109, 0}, {100, 9}, {-500, 609}, {200, 0}}},
		"a second one that agrees":       {[]look{{100, 10, 12}, {110, 21, 21}}, 21, 110, 0, 1, []age{{100, 10}}},
		"a second one that is narrower":  {[]look{{100, 10, 12}, {109.5, 20, 20}}, 20, 109.5, 0, 1, nil},
		"a wide one says little":         {[]look{{100, 10, 10}, {120, 20, 40}}, 40, 130, 20, 1, nil},
		"drift is followed":              {[]look{{100, 10, 10}, {110.4, 20, 20}, {120.8, 30, 30}}, 30, 120.8, 0, 1, []age{{110.8, 10}}},
		"overtaken":                      {[]look{{100, 10, 10}, {120, 30, 30}, {500, 20, 40}}, 30, 120, 0, 1, nil},
		"a step ahead": {[]look{{100, 10, 10}, {3701, 11, 11}}, 20, 3710, 0, 2,
			[]age{{3710, 0}, {3705, 5}, {100, 10}, {90, 20}, {2000, 10}, {9000, 0}}},
		"a step back": {[]look{{4000, 10, 10}, {401, 11, 11}}, 20, 410, 0, 2,
			[]age{{410, 0}, {405, 5}, {4000, 10}, {3990, 20}, {4000.5, 9.5}}},
		"back and forth": {[]look{{4000, 10, 10}, {401, 11, 11}, {4010, 20, 20}}, 30, 4020, 0, 3,
			[]age{{4015, 5}, {3995, 25}, {405, 15}, {4005, 15}}}, // the last one cannot be: as young as may be
		"an hour asleep looks like a step": {[]look{{100, 10, 10}, {3701, 11, 11}}, 12, 3702, 0, 2, []age{{99, 3}}},
		"a small step that nobody saw at once": {[]look{{100, 10, 10}, {163, 70, 70}}, 70, 163, 0, 2,
			[]age{{163, 0}, {162, 1}}},
	} {
		var e estimate
		for _, l := range c.looks {
			e.observe(noon.Add(seconds(l.stamp)), seconds(l.before), seconds(l.after))
		}
		switch got := e.at(seconds(c.now)); {
		case !got.Equal(noon.Add(seconds(c.at))):
			t.Errorf("must hold: got.Equal(noon.Add(seconds(c.at))); %s: %v within %v, %d eras; want %v, %v, %d", name, got.Sub(noon), e.within, len(e.eras), c.at, c.within, c.eras)
		case e.within != seconds(c.within):
			t.Errorf("e.within: got %v, want %v; %s: %v within %v, %d eras; want %v, %v, %d", e.within, seconds(c.within), name, got.Sub(noon), e.within, len(e.eras), c.at, c.within, c.eras)
		case len(e.eras) != c.eras:
			t.Errorf("len(e.eras): got %v, want %v; %s: %v within %v, %d eras; want %v, %v, %d", len(e.eras), c.eras, name, got.Sub(noon), e.within, len(e.eras), c.at, c.within, c.eras)
		case e.steps != c.eras-1:
			t.Errorf("e.steps: got %v, want %v; %s: %v within %v, %d eras; want %v, %v, %d", e.steps, c.eras-1, name, got.Sub(noon), e.within, len(e.eras), c.at, c.within, c.eras)
		}
		for _, a := range c.ages {
			if got := e.age(noon.Add(seconds(a.stamp)), seconds(c.now)); got != seconds(a.is) {
				t.Errorf("%s: the age of %v is %v, want %v s", name, a.stamp, got, a.is)
			}
		}
	}
}

// TestTheEstimateIsAsGoodAsTheLastObservation lets a broker's clock step, drift and be far away, at random.
func TestTheEstimateIsAsGoodAsTheLastObservation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var e estimate
		offset := seconds(rapid.Float64Range(-1e6, 1e6).Draw(t, "offset"))
		broker := func(m Mono) time.Time { return noon.Add(offset + m) }
		now := Mono(0)
		type stamped struct {
			stamp time.Time
			at    Mono
		}
		var stamps []stamped
		stepped := false // since the broker's time was read: of two steps between, the first is unknown
		for range rapid.IntRange(1, 40).Draw(t, "moves") {
			now += seconds(rapid.Float64Range(0.001, 2).Draw(t, "passes"))
			switch rapid.IntRange(0, 5).Draw(t, "move") {
			case 0:
				if !stepped {
					offset += seconds(rapid.SampledFrom([]float64{-86400, -3600, -1800, 1800, 3600, 90000}).Draw(t, "step"))
				}
				stepped = true
			case 1: // drift
				offset += seconds(rapid.Float64Range(-0.1, 0.1).Draw(t, "drift"))
			case 2:
				if len(e.eras) > 0 { // of what was before, the broker's word is all there is
					stamps = append(stamps, stamped{broker(now), now})
				}
			default:
				before := now
				now += seconds(rapid.Float64Range(0, 0.2).Draw(t, "there"))
				stamp := broker(now)
				now += seconds(rapid.Float64Range(0, 0.2).Draw(t, "back"))
				e.observe(stamp, before, now)
				stepped = false
				if miss := e.at(now).Sub(broker(now)).Abs(); miss > e.within+time.Microsecond || e.within > now-before {
					t.Fatalf("off by %v, said within %v, the round trip took %v", miss, e.within, now-before)
				}
				for _, s := range stamps {
					got := e.age(s.stamp, now)
					if got < 0 {
						t.Fatalf("a negative age: %v", got)
					}
					// Never older than it is, but for what an observation, and drift since, is wrong by: nothing is thrown away too early.
					if limit := now - s.at + 5*time.Second; got > limit {
						t.Fatalf("stamped %v ago, said to be %v old", now-s.at, got)
					}
				}
			}
		}
	})
}
