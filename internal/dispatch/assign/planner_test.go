package assign

import "testing"

func TestPartitionsAreSpelledAsRanges(t *testing.T) {
	for want, numbers := range map[string][]int{"": nil, "7": {7}, "0-63": upTo(64), "0-2 5 7-8": {8, 2, 1, 0, 5, 7}} {
		if got := spell(numbers); got != want {
			t.Errorf("%v: got %q, want %q", numbers, got, want)
		}
	}
}

func upTo(n int) (all []int) {
	for i := range n {
		all = append(all, i)
	}
	return all
}
