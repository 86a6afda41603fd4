package fair

import (
	"cmp"
	"maps"
	"slices"
)

// Divide shares a whole among those that want some of it, by their weights. Nobody gets more than it wants, and what is left of its share
// goes to the others. Everybody who wants some gets 1 at least, even if that is more than there is.
func Divide(whole int, wants map[string]int, weights Weights) map[string]int {
	order := slices.SortedFunc(maps.Keys(wants), func(a, b string) int {
		byNeed := cmp.Compare(float64(wants[a])/weights.of(a), float64(wants[b])/weights.of(b))
		return cmp.Or(byNeed, cmp.Compare(a, b))
	})
	sum := 0.0
	for _, name := range order {
		sum += weights.of(name)
	}
	shares := map[string]int{}
	for i, name := range order { // who wants least for its weight comes first: what it leaves is there for all behind it
		weight, behind := weights.of(name), len(order)-i-1
		n := min(wants[name], max(min(int(float64(whole)*weight/sum), whole-behind), 1))
		shares[name] = n
		whole, sum = whole-n, sum-weight
	}
	return shares
}
