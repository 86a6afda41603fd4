package clock

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestWhoIsToldOfTheStepsJudgesAgesLikeThoseWhoWereThere has a broker's clock set at random, and a process start afterwards on another
// machine, whose monotonic clock began elsewhere.
func TestWhoIsToldOfTheStepsJudgesAgesLikeThoseWhoWereThere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const elsewhere = 77 * time.Hour
		var old estimate
		offset, now := time.Duration(0), Mono(0)
		type stamped struct {
			stamp time.Time
			at    Mono
		}
		var stamps []stamped
		look := func(e *estimate, began Mono) { e.observe(noon.Add(offset+now), now+began, now+began) }
		look(&old, 0)
		for range rapid.IntRange(1, 20).Draw(t, "moves") {
			now += seconds(rapid.Float64Range(0.001, 900).Draw(t, "passes"))
			look(&old, 0)
			stamps = append(stamps, stamped{noon.Add(offset + now), now})
			if rapid.Bool().Draw(t, "steps") {
				now += seconds(rapid.Float64Range(0, 2).Draw(t, "unseen"))
				offset += seconds(rapid.SampledFrom([]float64{-86400, -3600, -1800, 1800, 3600, 90000}).Draw(t, "by"))
				look(&old, 0)
			}
		}
		now += time.Second
		var late estimate
		look(&late, elsewhere)
		told, _ := Merge(nil, old.recorded())
		late.merge(told)
		for _, s := range stamps {
			a, b := old.age(s.stamp, now), late.age(s.stamp, now+elsewhere)
			if (a - b).Abs() > time.Millisecond {
				t.Fatalf("stamped %v ago, %v old to who was there, %v to who was told", now-s.at, a, b)
			}
			if b > now-s.at+3*time.Second {
				t.Fatalf("stamped %v ago, said to be %v old", now-s.at, b)
			}
		}
	})
}

func TestWhatIsToldOfStepsIsEachStepOnce(t *testing.T) {
	at := func(from, found, by float64) Step {
		return Step{noon.Add(seconds(from)), noon.Add(seconds(found)), seconds(by)}
	}
	for name, c := range map[string]struct {
		known, seen []Step
		want        int
		more        bool
	}{
		"nothing":                   {nil, nil, 0, false},
		"a first one":               {nil, []Step{at(1, 2, 3600)}, 1, true},
		"another's view of it":      {[]Step{at(1, 2, 3600)}, []Step{at(1.6, 2.4, 3600.3)}, 1, false},
		"seen late by who stood":    {[]Step{at(1, 2, 3600)}, []Step{at(-60, 90, 3600)}, 1, false},
		"another one":               {[]Step{at(1, 2, 3600)}, []Step{at(1, 2, 3600), at(100, 101, -3600)}, 2, true},
		"the same again much later": {[]Step{at(1, 2, 3600)}, []Step{at(5000, 5001, 3600)}, 2, true},
	} {
		t.Run(name, func(t *testing.T) {
			if all, more := Merge(c.known, c.seen); len(all) != c.want || more != c.more {
				t.Errorf("%v, %v", all, more)
			}
		})
	}
	var many []Step
	for n := range 200 {
		many, _ = Merge(many, []Step{at(float64(10*n), float64(10*n+1), 60)})
	}
	if len(many) != mostEras-1 || !many[len(many)-1].From.Equal(noon.Add(1990*time.Second)) {
		t.Errorf("%d are kept, the last one %v", len(many), many[len(many)-1])
	}
	// Who received it keeps it, and passes it on in turn.
	var e estimate
	e.observe(noon, 5, 5)
	e.merge(many)
	if _, more := Merge(many, e.recorded()); more {
		t.Error("what was learnt is told as news")
	}
}
