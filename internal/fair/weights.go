package fair

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/dspex/dspex/internal/contract"
)

// Weights are the shares of tenants while all of them have something waiting. A tenant that is not among them has 1. They are a value of
// a flag, and never change once they are in use.
type Weights map[string]int

// Bounds of Weights.
const (
	MaxWeight  = 100
	MaxWeights = 1000
)

// of is a tenant's weight.
func (w Weights) of(tenant string) float64 {
	if n := w[tenant]; n > 0 {
		return float64(n)
	}
	return 1
}

// Set reads "acme=3,beta=1".
func (w *Weights) Set(text string) error {
	read := Weights{}
	if text == "" {
		*w = read
		return nil
	}
	for one := range strings.SplitSeq(text, ",") {
		name, number, ok := strings.Cut(one, "=")
		n, err := strconv.Atoi(number)
		switch {
		case !ok || !contract.ValidToken(name, contract.MaxTenant):
			return fmt.Errorf("must be TENANT=WEIGHT, several separated by commas, got %q", one)
		case err != nil || n < 1 || n > MaxWeight:
			return fmt.Errorf("must be whole numbers from 1 to %d, got %s=%s", MaxWeight, name, number)
		case read[name] != 0:
			return fmt.Errorf("must have each tenant once, got %s twice", name)
		}
		if read[name] = n; len(read) > MaxWeights {
			return fmt.Errorf("must have at most %d tenants, got more", MaxWeights)
		}
	}
	*w = read
	return nil
}

// String is what Set reads, by name.
func (w *Weights) String() string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(*w)) {
		all = append(all, name+"="+strconv.Itoa((*w)[name]))
	}
	return strings.Join(all, ",")
}

// Type names the kind of value in --help.
func (w *Weights) Type() string { return "weights" }
