package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/stream"
)

// clockTolerance is how far the wall clocks of two machines may differ. Jobs are not judged by them: who reads logs is.
const clockTolerance = 2 * time.Second

// machineClock is one machine's wall clock against the broker's.
type machineClock struct {
	of  string
	off time.Duration
}

// ClocksOff names the machines whose clocks are wrong: the hosts, the dispatcher, the broker.
func ClocksOff(own *stream.Clock, dispatcher string, beats []control.Heartbeat) (reasons []string) {
	clocks := []machineClock{{of: "the broker"}}
	if off, known := own.Off(); known {
		clocks = append(clocks, machineClock{"dispatcher " + dispatcher, off})
	}
	for _, b := range beats {
		if b.ClockOff != nil {
			clocks = append(clocks, machineClock{"host " + b.Host, time.Duration(*b.ClockOff) * time.Millisecond})
		}
	}
	for _, c := range wrongClocks(clocks) {
		reasons = append(reasons, fmt.Sprintf("the clock of %s is off by %v", c.of, c.off.Round(100*time.Millisecond)))
	}
	return reasons
}

// wrongClocks are those that differ from what most agree on; of two opinions with as many followers that of the first clock, the
// broker's, counts.
func wrongClocks(clocks []machineClock) (wrong []machineClock) {
	best, followers := time.Duration(0), 0
	for _, c := range clocks {
		n := 0
		for _, other := range clocks {
			if (other.off - c.off).Abs() <= clockTolerance {
				n++
			}
		}
		if n > followers {
			best, followers = c.off, n
		}
	}
	for _, c := range clocks {
		if off := c.off - best; off.Abs() > clockTolerance {
			wrong = append(wrong, machineClock{c.of, off})
		}
	}
	slices.SortFunc(wrong, func(a, b machineClock) int { return cmp.Compare(a.of, b.of) })
	return wrong
}
