package fleet

import (
	"context"
	"encoding/json"
	"time"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// New has no host yet. threshold is the share of failing jobs above which there is an alert.
func New(broker *stream.Access, threshold *Threshold) *Fleet {
	return &Fleet{broker: broker, errors: errorRate{alarm: alarm{threshold: threshold}}}
}

// Receive takes the hosts' heartbeats until stop is called, and hands each on to also.
func (f *Fleet) Receive(also func(control.Heartbeat)) (stop func(), err error) {
	f.connected, f.looked = time.Now(), time.Now()
	return f.broker.Receive(jobs.SubjectHeartbeat+"*", func(subject string, data []byte) {
		var b control.Heartbeat
		if json.Unmarshal(data, &b) != nil || jobs.SubjectHeartbeat+b.Host != subject {
			return
		}
		f.observe(b)
		also(b)
	})
}

// probePatience bounds the wait for the answer of a probe; below afterReconnect, so that probes make no gap.
const probePatience = 500 * time.Millisecond

// Follow judges the hosts every tick until ctx ends, and calls died when one has died.
func (f *Fleet) Follow(ctx context.Context, died func()) {
	probe := func(host string) error {
		bounded, cancel := context.WithTimeout(context.Background(), probePatience)
		defer cancel()
		_, err := f.broker.Request(bounded, jobs.SubjectControl+host+".ping", nil)
		return err
	}
	for range clock.AtOnceAndEvery(ctx, Tick) {
		if f.judge(f.broker.Connected(), probe) {
			died()
		}
	}
}

// ErrorRate is the rate now.
func (f *Fleet) ErrorRate() Rate { return f.errors.now() }

// JudgeErrors is the rate, and whether there is something to send an alert about.
func (f *Fleet) JudgeErrors() (Rate, Verdict) { return f.errors.judge() }
