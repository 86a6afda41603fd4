// Package top is `dspex top`: the pool's numbers as they move.
package top

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/dspex/dspex"
)

// sample is one look at the pool. Parts that could not be read keep their zero value, with the reason in err.
type sample struct {
	at       time.Time
	health   dspex.Health
	sick     error // why the pool cannot serve
	hosts    dspex.Hosts
	breakers []dspex.Breaker
	err      error // why hosts or breakers are not known, such as a user who may not ask
}

// source is what samples are taken from.
type source interface {
	Health(context.Context) (dspex.Health, error)
	Hosts(context.Context) (dspex.Hosts, error)
	Breakers(context.Context) ([]dspex.Breaker, error)
}

// pool is the source of a client.
type pool struct {
	*dspex.Client
	admin *dspex.Admin
}

func (p pool) Hosts(ctx context.Context) (dspex.Hosts, error)        { return p.admin.Hosts(ctx) }
func (p pool) Breakers(ctx context.Context) ([]dspex.Breaker, error) { return p.admin.Breakers(ctx) }

// take takes a sample; the three requests run at the same time.
func take(ctx context.Context, from source) sample {
	s := sample{at: time.Now()}
	var hosts, breakers error
	var all sync.WaitGroup
	all.Go(func() { s.health, s.sick = from.Health(ctx) })
	all.Go(func() { s.hosts, hosts = from.Hosts(ctx) })
	all.Go(func() { s.breakers, breakers = from.Breakers(ctx) })
	all.Wait()
	if s.err = hosts; s.err == nil {
		s.err = breakers
	}
	return s
}

// kept is the number of samples that the graphs show at most.
const kept = 240

// history is what was seen, the newest last.
type history struct {
	samples  []sample
	requests []float64 // a second, between a sample and the one before
	errors   []float64
	hosts    map[string]float64 // requests a second of each host, by the last two samples
}

// add takes a sample in. Counters that fell, because a host has restarted, count as no change.
func (h *history) add(s sample) {
	h.hosts = map[string]float64{}
	if before, ok := h.last(); ok {
		span := s.at.Sub(before.at).Seconds()
		requests, errors := 0.0, 0.0
		if before.sick == nil && s.sick == nil { // else the numbers of one of them are not known
			requests = rate(before.health.Stats.TotalRequests, s.health.Stats.TotalRequests, span)
			errors = rate(before.health.Stats.TotalErrors, s.health.Stats.TotalErrors, span)
		}
		h.requests, h.errors = keep(h.requests, requests), keep(h.errors, errors)
		for _, host := range s.hosts.Hosts {
			i := slices.IndexFunc(before.hosts.Hosts, func(b dspex.HostInfo) bool { return b.Incarnation == host.Incarnation })
			if i >= 0 {
				h.hosts[host.Host] = rate(before.hosts.Hosts[i].TotalRequests, host.TotalRequests, span)
			}
		}
	}
	h.samples = keep(h.samples, s)
}

func (h *history) last() (s sample, ok bool) {
	if len(h.samples) == 0 {
		return s, false
	}
	return h.samples[len(h.samples)-1], true
}

func keep[T any](list []T, value T) []T {
	if list = append(list, value); len(list) > kept {
		list = slices.Delete(list, 0, len(list)-kept)
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
