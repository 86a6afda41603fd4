package devserver

import (
	"reflect"
	"slices"
	"sync"

	"github.com/dspex/dspex/internal/dispatch"
	"github.com/dspex/dspex/internal/echolm"
	"github.com/dspex/dspex/internal/host"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lm"
	"github.com/dspex/dspex/internal/pyproc"
	"github.com/dspex/dspex/internal/sandbox"
)

// serving is a run, with the settings that are in force.
type serving struct {
	mu         sync.Mutex
	cfg        Config
	defaults   jobs.Defaults
	profiles   lm.File
	models     *lm.Registry
	echo       *echolm.Server // nil: a language model is configured
	workers    workforce
	dispatcher *dispatch.Dispatcher
	host       *host.Host
}

// slots are those of all workers.
func (s *serving) slots() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cfg.Workers * s.cfg.Slots
}

// modelNames are the LM profiles.
func (s *serving) modelNames() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return namesOf(s.profiles)
}

// adjust takes over what can change of a configuration that Check has found right: the size of the pool, health checks and recycling,
// timeouts, circuit breakers, job defaults, LM profiles, alerts. With an error it has changed nothing.
func (s *serving) adjust(next Config) (Adjusted, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next = next.withDefaults()
	next.mode = s.cfg.mode
	found := Adjusted{Kept: map[string]string{}}
	defaults, err := next.Defaults.Load()
	if err != nil {
		return found, err
	}
	if s.workers.adjust == nil {
		found.keep("workers", next.Workers != s.cfg.Workers, oneSize)
		found.keep("overflow", next.Pool.Overflow != s.cfg.Pool.Overflow, oneSize)
		next.Workers, next.Pool.Overflow = s.cfg.Workers, s.cfg.Pool.Overflow
	} else if err := s.workers.adjust(limitsOf(next)); err != nil {
		return found, err
	}
	if !reflect.DeepEqual(s.defaults, defaults) && next.Defaults.Timeout == s.cfg.Defaults.Timeout {
		found.Content = append(found.Content, "job-defaults")
	}
	s.host.Adjust(host.Settings{Capacity: next.Workers * s.cfg.Slots, CheckoutTimeout: next.Times.Checkout, Defaults: defaults, Breaker: next.Breaker})
	s.cfg.Workers, s.cfg.Pool.Overflow, s.cfg.Times.Checkout, s.cfg.Defaults, s.cfg.Breaker, s.defaults = next.Workers, next.Pool.Overflow, next.Times.Checkout, next.Defaults, next.Breaker, defaults
	s.takeAlerts(next.Alerts, &found)
	return found, s.takeModels(next, &found)
}

const oneSize = "the pool of this test mode has one size"

func (a *Adjusted) keep(flag string, changed bool, why string) {
	if changed {
		a.Kept[flag] = why
	}
}

func limitsOf(c Config) pyproc.Limits {
	cfg := pyproc.Config{Size: c.Workers}
	c.Pool.Apply(&cfg)
	return cfg.Limits()
}

// takeAlerts gives the dispatcher another threshold and other destinations. A webhook's address is read at the start.
func (s *serving) takeAlerts(next dispatch.Alerts, found *Adjusted) {
	if slices.Contains(next.Destinations, "webhook") && s.cfg.Alerts.Webhook == "" {
		found.keep("alert-destinations", true, "the webhook's address is read at the start")
		next.Destinations = s.cfg.Alerts.Destinations
	}
	s.cfg.Alerts.ErrorRate, s.cfg.Alerts.Destinations = next.ErrorRate, next.Destinations
	s.dispatcher.Adjust(s.cfg.Alerts)
}

// takeModels replaces the LM profiles, unless the workers that run cannot have them.
func (s *serving) takeModels(next Config, found *Adjusted) error {
	if next.LMFile == "" && s.echo == nil {
		found.keep("lm", true, "the echo model is started with the program")
		return nil
	}
	models, profiles, err := profilesOf(next, s.echo)
	if err != nil {
		return err
	}
	if s.models.Equal(models) {
		return nil
	}
	found.Content = append(found.Content, "lm")
	have := lm.Workers{Litellm: s.profiles.NeedsLitellm(), KeyFiles: keyFiles(s.cfg, s.profiles), Boxed: s.cfg.box.Level != sandbox.None, Strict: s.cfg.box.Level == sandbox.Strict}
	if why := have.CannotHave(models, profiles.NeedsLitellm(), keyFiles(next, profiles)); why != "" {
		found.keep("lm", true, why)
		found.keep("allow-key-refs", !reflect.DeepEqual(next.KeyRefs, s.cfg.KeyRefs), why)
		return nil
	}
	s.models.Take(models)
	s.profiles, s.cfg.LMFile, s.cfg.KeyRefs = profiles, next.LMFile, next.KeyRefs
	return nil
}

func keyFiles(cfg Config, profiles lm.File) []string {
	return append(profiles.SecretFiles(), cfg.KeyRefs.Files()...)
}
