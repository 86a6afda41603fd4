package insight

import (
	"testing"
	"time"

	"github.com/dspex/dspex"
)

const ms = time.Millisecond

func hostOf(incarnation string, buckets ...dspex.LatencyBucket) dspex.HostInfo {
	h := dspex.HostInfo{Incarnation: incarnation}
	if buckets != nil {
		h.Latency = map[string][]dspex.LatencyBucket{"call": buckets, "queue": {{Upper: time.Hour, Jobs: 7}}}
	}
	return h
}

func TestLatencyIsOfTheJobsThatEndedBetweenTwoSamples(t *testing.T) {
	none, slow := []dspex.LatencyBucket{}, dspex.LatencyBucket{Upper: time.Hour, Jobs: 1000}
	for _, row := range []struct {
		name        string
		before, now []dspex.HostInfo
		want        Latency
	}{
		{"nothing ended", []dspex.HostInfo{hostOf("a", slow)}, []dspex.HostInfo{hostOf("a", slow)}, Latency{}},
		{"the first jobs", []dspex.HostInfo{hostOf("a", none...)}, []dspex.HostInfo{hostOf("a", dspex.LatencyBucket{Upper: ms, Jobs: 1})}, Latency{1, ms, ms}},
		{"99 of 100", []dspex.HostInfo{hostOf("a", slow)}, []dspex.HostInfo{hostOf("a", dspex.LatencyBucket{Upper: ms, Jobs: 99}, dspex.LatencyBucket{Upper: time.Hour, Jobs: 1001})}, Latency{100, ms, ms}},
		{"98 of 100", []dspex.HostInfo{hostOf("a", slow)}, []dspex.HostInfo{hostOf("a", dspex.LatencyBucket{Upper: ms, Jobs: 98}, dspex.LatencyBucket{Upper: time.Hour, Jobs: 1002})}, Latency{100, ms, time.Hour}},
		{"two hosts", []dspex.HostInfo{hostOf("a", slow), hostOf("b", slow)}, []dspex.HostInfo{hostOf("b", dspex.LatencyBucket{Upper: ms, Jobs: 3}, slow), hostOf("a", dspex.LatencyBucket{Upper: 2 * ms, Jobs: 4}, slow)}, Latency{7, 2 * ms, 2 * ms}},
		{"a host restarts", []dspex.HostInfo{hostOf("a", slow)}, []dspex.HostInfo{hostOf("b", dspex.LatencyBucket{Upper: ms, Jobs: 3})}, Latency{}},
		{"a host answers again", []dspex.HostInfo{hostOf("a")}, []dspex.HostInfo{hostOf("a", slow)}, Latency{}},
		{"a host does not answer", []dspex.HostInfo{hostOf("a", slow)}, []dspex.HostInfo{hostOf("a")}, Latency{}},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := latencyOf("call", dspex.Hosts{Hosts: row.before}, dspex.Hosts{Hosts: row.now}); got != row.want {
				t.Errorf("must be %+v, got %+v", row.want, got)
			}
		})
	}
}
