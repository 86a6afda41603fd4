// Package insight computes what people see of a pool: its numbers as they move, and why a job is where it is. `dspex` in the terminal and
// the dashboard share it. Everything comes from requests that any client with the permissions may send.
package insight

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/dspex/dspex"
)

// Sample is the state of the pool at one moment. Parts that could not be read keep their zero value, with the reason in Err.
type Sample struct {
	At       time.Time
	Health   dspex.Health
	Sick     error // why the pool cannot serve
	Hosts    dspex.Hosts
	Breakers []dspex.Breaker
	Err      error // why hosts or breakers are missing, such as a user without permission
}

// Source is what samples are taken from.
type Source interface {
	Health(context.Context) (dspex.Health, error)
	Hosts(context.Context) (dspex.Hosts, error)
	Breakers(context.Context) ([]dspex.Breaker, error)
}

// pool is the source of a client.
type pool struct {
	*dspex.Client
	admin *dspex.Admin
}

// Pool makes a source of a client.
func Pool(c *dspex.Client) Source { return pool{c, c.Admin()} }

func (p pool) Hosts(ctx context.Context) (dspex.Hosts, error)        { return p.admin.Hosts(ctx) }
func (p pool) Breakers(ctx context.Context) ([]dspex.Breaker, error) { return p.admin.Breakers(ctx) }

// Take takes a sample; the three requests run at the same time.
func Take(ctx context.Context, from Source) Sample {
	s := Sample{At: time.Now()}
	var hosts, breakers error
	var all sync.WaitGroup
	all.Go(func() { s.Health, s.Sick = from.Health(ctx) })
	all.Go(func() { s.Hosts, hosts = from.Hosts(ctx) })
	all.Go(func() { s.Breakers, breakers = from.Breakers(ctx) })
	all.Wait()
	if s.Err = hosts; s.Err == nil {
		s.Err = breakers
	}
	return s
}

// Kept is the number of samples that the graphs show at most.
const Kept = 240

// History is what was seen, the newest last.
type History struct {
	Samples  []Sample
	Requests []float64 // a second, between a sample and the one before
	Errors   []float64
	Hosts    map[string]float64 // requests a second of each host, by the last two samples
	Calls    []Latency          // between a sample and the one before
	Queued   []Latency          // the same of published jobs
}

// Add takes a sample in. Counters that fell, because a host has restarted, count as no change.
func (h *History) Add(s Sample) {
	h.Hosts = map[string]float64{}
	if before, ok := h.Last(); ok {
		span := s.At.Sub(before.At).Seconds()
		requests, errors := 0.0, 0.0
		if before.Sick == nil && s.Sick == nil { // else the numbers of one of them are not known
			requests = rate(before.Health.Stats.TotalRequests, s.Health.Stats.TotalRequests, span)
			errors = rate(before.Health.Stats.TotalErrors, s.Health.Stats.TotalErrors, span)
		}
		h.Requests, h.Errors = keep(h.Requests, requests), keep(h.Errors, errors)
		h.Calls = keep(h.Calls, latencyOf("call", before.Hosts, s.Hosts))
		h.Queued = keep(h.Queued, latencyOf("queue", before.Hosts, s.Hosts))
		for _, host := range s.Hosts.Hosts {
			i := slices.IndexFunc(before.Hosts.Hosts, func(b dspex.HostInfo) bool { return b.Incarnation == host.Incarnation })
			if i >= 0 {
				h.Hosts[host.Host] = rate(before.Hosts.Hosts[i].TotalRequests, host.TotalRequests, span)
			}
		}
	}
	h.Samples = keep(h.Samples, s)
}

// Last is the newest sample.
func (h *History) Last() (s Sample, ok bool) {
	if len(h.Samples) == 0 {
		return s, false
	}
	return h.Samples[len(h.Samples)-1], true
}

func keep[T any](list []T, value T) []T {
	if list = append(list, value); len(list) > Kept {
		list = slices.Delete(list, 0, len(list)-Kept)
	}
	return list
}

// rate is the growth a second.
func rate(before, after int64, seconds float64) float64 {
	if after <= before || seconds <= 0 {
		return 0
	}
	return float64(after-before) / seconds
}
