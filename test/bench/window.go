//go:build linux

package main

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// operation starts one operation and has done called at its end. A lane has one operation in flight; n counts all lanes'
// operations without a gap in each lane.
type operation func(lane, n int, done func(error))

// window keeps o.Window operations in flight until the time is over or the count is reached, and waits for their ends.
func window(o order, op operation) (answer, error) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	lanes := make([][]float64, o.Window)
	began := time.Now()
	until := began.Add(time.Duration(o.Seconds * float64(time.Second)))
	var next func(lane, turn int)
	next = func(lane, turn int) {
		n := lane + turn*o.Window
		if o.Count > 0 && n >= o.Count || o.Count == 0 && !time.Now().Before(until) {
			wg.Done()
			return
		}
		at := time.Now()
		op(lane, n, func(err error) {
			if err != nil {
				mu.Lock()
				first = errors.Join(first, err)
				mu.Unlock()
				wg.Done()
				return
			}
			lanes[lane] = append(lanes[lane], float64(time.Since(at).Nanoseconds())/1000)
			next(lane, turn+1)
		})
	}
	for lane := range o.Window {
		wg.Add(1)
		next(lane, 0)
	}
	wg.Wait()
	return summary(time.Since(began), slices.Concat(lanes...)), first
}

func summary(took time.Duration, latencies []float64) answer {
	a := answer{Count: len(latencies), Seconds: took.Seconds()}
	if a.Count > 0 {
		slices.Sort(latencies)
		a.P50, a.P99 = latencies[a.Count/2], latencies[a.Count*99/100]
	}
	return a
}

// replies is one subscription for the answers to all lanes.
type replies struct {
	prefix string
	wait   []func(*nats.Msg)
}

// maxLanes bounds the lanes that may wait for a reply.
const maxLanes = 4096

func newReplies(nc *nats.Conn) (*replies, error) {
	r := &replies{prefix: nc.NewInbox() + ".", wait: make([]func(*nats.Msg), maxLanes)}
	_, err := nc.Subscribe(r.prefix+"*", func(m *nats.Msg) {
		if len(m.Data) == 0 && len(m.Header) == 0 {
			return // behind the last reply to another account
		}
		lane := 0
		for _, c := range m.Subject[len(r.prefix):] {
			lane = lane*10 + int(c-'0')
		}
		if f := r.wait[lane]; f != nil {
			r.wait[lane] = nil
			f(m)
		}
	})
	return r, err
}

// failure says what is wrong with a reply.
func failure(m *nats.Msg) error {
	if text := m.Header.Get("Nats-Service-Error"); text != "" {
		return errors.New(text)
	}
	if status := m.Header.Get("Status"); status != "" {
		return errors.New("status " + status)
	}
	return nil
}
