package main

import (
	"errors"
	"reflect"

	"github.com/dspex/dspex/internal/daemon"
	"github.com/dspex/dspex/internal/host"
	"github.com/dspex/dspex/internal/lm"
	"github.com/dspex/dspex/internal/pyproc"
)

// running is what a reload changes.
type running struct {
	host   *host.Host
	pool   *pyproc.Pool // nil in a test mode without processes
	boxed  bool         // workers are kept from the host's secrets
	strict bool         // and from the network
}

// reload reads the settings again for a host that runs with o.
func (o *options) reload() daemon.Reload {
	next := &options{}
	return daemon.Reload{Flags: next.declare, Check: next.check, Takes: daemon.HostTakes, Take: func(c *daemon.Changes) error { return o.take(next, c) }}
}

// take applies what has changed.
func (o *options) take(next *options, c *daemon.Changes) error {
	live := o.live.Load()
	if live == nil {
		return errors.New("this host has no workers yet: reload it when it has written its line \"ready\"")
	}
	if live.pool == nil {
		for _, name := range []string{"workers", "overflow"} {
			if c.Flag(name) {
				c.Keep(name, "the pool of this test mode has one size")
			}
		}
		next.workers, next.pool.Overflow = o.workers, o.pool.Overflow
	} else if err := live.pool.Adjust(next.limits()); err != nil {
		return err
	}
	if !reflect.DeepEqual(o.jobOptions, next.jobOptions) && !c.Flag("operation-timeout") {
		c.Content("job-defaults")
	}
	live.host.Adjust(host.Settings{Capacity: next.workers * o.slots, CheckoutTimeout: next.checkout, Defaults: next.jobOptions, Breaker: next.breaker, Weights: next.weights})
	o.workers, o.pool.Overflow, o.checkout, o.jobOptions, o.breaker, o.weights = next.workers, next.pool.Overflow, next.checkout, next.jobOptions, next.breaker, next.weights
	o.takeModels(next, c, live)
	return nil
}

// limits are those of the pool.
func (o *options) limits() pyproc.Limits {
	cfg := pyproc.Config{Size: o.workers, Weights: o.weights}
	o.pool.Apply(&cfg)
	return cfg.Limits()
}

// takeModels replaces the LM profiles, unless the workers that run cannot have them.
func (o *options) takeModels(next *options, c *daemon.Changes, live *running) {
	if o.models.Equal(next.models) {
		return
	}
	if c.Flag("lm") || !c.Flag("allow-key-refs") {
		c.Content("lm")
	}
	have := lm.Workers{Litellm: o.litellm, KeyFiles: o.keyFiles, Boxed: live.boxed, Strict: live.strict}
	if why := have.CannotHave(next.models, next.litellm, next.keyFiles); why != "" {
		for _, name := range []string{"lm", "allow-key-refs"} {
			if c.Flag(name) || name == "lm" {
				c.Keep(name, why)
			}
		}
		return
	}
	o.models.Take(next.models)
}
