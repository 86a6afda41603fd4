package stores

import (
	"errors"
	"testing"

	"github.com/dspex/dspex/internal/stream"
)

func TestInAClusterAFullDiskIsWhatTwoRoundsInARowHaveFound(t *testing.T) {
	var v Probes
	round := func(found error) error {
		why := map[string]error{}
		if found != nil {
			why[stream.Jobs] = found
		}
		v.confirm(why)
		return why[stream.Jobs]
	}
	for n, step := range []struct {
		found error
		full  bool
	}{
		{stream.ErrTakesNothing, false}, // it may be an election
		{nil, false},
		{stream.ErrTakesNothing, false},
		{stream.ErrTakesNothing, true},
		{stream.ErrTakesNothing, true},
		{stream.ErrUnknown, false},
		{stream.ErrTakesNothing, false},
		{stream.ErrStoreFull, true}, // the broker itself reported it
	} {
		got := round(step.found)
		if errors.Is(got, stream.ErrStoreFull) != step.full {
			t.Errorf("round %d, found %v: %v, full: want %t", n, step.found, got, step.full)
		}
		if (got == nil) != (step.found == nil) {
			t.Errorf("round %d, found %v: %v", n, step.found, got)
		}
	}
}
