package fair

import (
	"maps"
	"testing"

	"pgregory.net/rapid"
)

func TestAWholeIsDividedByWeightAndWhatIsLeftGoesToTheOthers(t *testing.T) {
	for name, of := range map[string]struct {
		whole         int
		wants, shares map[string]int
	}{
		"by weight":               {16, map[string]int{"acme": 100, "beta": 100}, map[string]int{"acme": 12, "beta": 4}},
		"who wants less":          {16, map[string]int{"acme": 2, "beta": 100}, map[string]int{"acme": 2, "beta": 14}},
		"alone":                   {16, map[string]int{"beta": 100}, map[string]int{"beta": 16}},
		"one each, at least":      {1, map[string]int{"acme": 9, "beta": 9, "gamma": 9}, map[string]int{"acme": 1, "beta": 1, "gamma": 1}},
		"nothing to divide":       {0, map[string]int{"acme": 9}, map[string]int{"acme": 1}},
		"enough for all of them":  {99, map[string]int{"acme": 5, "beta": 7}, map[string]int{"acme": 5, "beta": 7}},
		"nobody wants any of it":  {16, map[string]int{}, map[string]int{}},
		"a single one of another": {15, map[string]int{"acme": 640, "beta": 1}, map[string]int{"acme": 14, "beta": 1}},
	} {
		if got := Divide(of.whole, of.wants, Weights{"acme": 3}); !maps.Equal(got, of.shares) {
			t.Errorf("%s: got %v, want %v", name, got, of.shares)
		}
	}
}

func TestNothingIsLeftThatSomebodyWants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SampledFrom([]string{"a", "b", "c", "d", "e"})
		wants := rapid.MapOf(names, rapid.IntRange(1, 1024)).Draw(t, "wants")
		weights := rapid.MapOf(names, rapid.IntRange(1, MaxWeight)).Draw(t, "weights")
		whole := rapid.IntRange(0, 4096).Draw(t, "whole")
		given, wanted := 0, 0
		for name, n := range Divide(whole, wants, weights) {
			if n < 1 || n > wants[name] {
				t.Fatalf("%s gets %d and wants %d", name, n, wants[name])
			}
			given, wanted = given+n, wanted+wants[name]
		}
		if most := max(min(whole, wanted), len(wants)); given > most || given < min(whole, wanted) {
			t.Fatalf("%d of %d are given to %d that want %d", given, whole, len(wants), wanted)
		}
	})
}
