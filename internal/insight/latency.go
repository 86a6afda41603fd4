package insight

import (
	"maps"
	"slices"
	"time"

	"github.com/dspex/dspex"
)

// Latency is how long jobs took that ended between two samples, from their acceptance to their end, to a ninth.
type Latency struct {
	Jobs     int64
	P50, P99 time.Duration
}

// latencyOf is that of the jobs of a mode. Hosts that were not in both samples are not in it.
func latencyOf(mode string, before, now dspex.Hosts) Latency {
	ended, l := map[time.Duration]int64{}, Latency{}
	for _, host := range now.Hosts {
		i := slices.IndexFunc(before.Hosts, func(b dspex.HostInfo) bool { return b.Incarnation == host.Incarnation })
		if i < 0 || before.Hosts[i].Latency == nil {
			continue
		}
		for _, b := range host.Latency[mode] {
			ended[b.Upper] += b.Jobs
		}
		for _, b := range before.Hosts[i].Latency[mode] {
			ended[b.Upper] -= b.Jobs
		}
	}
	uppers := slices.Sorted(maps.Keys(ended))
	for _, upper := range uppers {
		l.Jobs += max(ended[upper], 0)
	}
	l.P50, l.P99 = quantile(ended, uppers, l.Jobs, 50), quantile(ended, uppers, l.Jobs, 99)
	return l
}

// quantile is the time that percent of the jobs did not exceed, 0 of none.
func quantile(ended map[time.Duration]int64, uppers []time.Duration, jobs, percent int64) time.Duration {
	sum := int64(0)
	for _, upper := range uppers {
		if sum += max(ended[upper], 0); sum > 0 && sum*100 >= jobs*percent {
			return upper
		}
	}
	return 0
}
