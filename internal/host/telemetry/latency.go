package telemetry

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/jobs"
)

// Latencies count jobs by how long they took, from their acceptance to their end, calls and published jobs apart: a published job may wait
// for hours.
type Latencies struct{ calls, queued latencies }

// latencies has eight buckets for each doubling of the time, from a quarter of a millisecond to more than four hours. The first one has
// what is shorter, the last one what is longer.
type latencies [doublings*perDoubling + 1]atomic.Int64

const (
	shortest    = time.Millisecond / 4
	doublings   = 26
	perDoubling = 8
)

func (l *Latencies) ended(mode jobs.Mode, took time.Duration) {
	of := &l.queued
	if mode == jobs.ModeCall {
		of = &l.calls
	}
	of[bucketOf(took)].Add(1)
}

// All are the counts since the start.
func (l *Latencies) All() map[string]control.Latencies {
	return map[string]control.Latencies{string(jobs.ModeCall): l.calls.all(), string(jobs.ModeQueue): l.queued.all()}
}

func (l *latencies) all() control.Latencies {
	all := control.Latencies{}
	for i := range l {
		if n := l[i].Load(); n > 0 {
			all = append(all, [2]float64{upperOf(i), float64(n)})
		}
	}
	return all
}

func bucketOf(took time.Duration) int {
	if took <= shortest {
		return 0
	}
	at := math.Ceil(perDoubling * math.Log2(float64(took)/float64(shortest)))
	return min(int(at), doublings*perDoubling)
}

// upperOf is the longest time of a bucket, in ms with three decimals.
func upperOf(bucket int) float64 {
	ms := shortest.Seconds() * 1000 * math.Exp2(float64(bucket)/perDoubling)
	return math.Round(ms*1000) / 1000
}
