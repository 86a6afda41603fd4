package fleet

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestTheMachineIsNamedWhoseClockDiffersFromMost(t *testing.T) {
	off := func(seconds ...float64) (clocks []machineClock) {
		for i, name := range []string{"broker", "d", "h1", "h2"}[:len(seconds)] {
			clocks = append(clocks, machineClock{name, time.Duration(seconds[i] * float64(time.Second))})
		}
		return clocks
	}
	for name, c := range map[string]struct {
		clocks []machineClock
		want   string
	}{
		"all agree":                 {off(0, 0.5, -1.9, 1.9), ""},
		"one host":                  {off(0, 0, -3600, 0), "h1 -1h0m0s"},
		"one host, by a little":     {off(0, 0, 2.1, 0), "h1 2.1s"},
		"the dispatcher":            {off(0, 90, 1), "d 1m30s"},
		"the broker":                {off(0, -1800, -1800, -1801), "broker 30m0s"},
		"a host and the dispatcher": {off(0, 5, -5, 0), "d 5s, h1 -5s"},
		"two against two":           {off(0, 0, 7, 7), "h1 7s, h2 7s"},
		"the broker and a host":     {off(0, 7, 7), "broker -7s"},
		"nobody knows":              {off(0), ""},
		"each has its own":          {off(0, 10, 20), "d 10s, h1 20s"},
	} {
		var got []string
		for _, w := range wrongClocks(c.clocks) {
			got = append(got, fmt.Sprint(w.of, " ", w.off))
		}
		if s := strings.Join(got, ", "); s != c.want {
			t.Errorf("%s: %q, want %q", name, s, c.want)
		}
	}
}
