package daemon

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/pflag"

	"github.com/dspex/dspex/internal/config"
	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/tracing"
)

// common are the flags that all programs have.
type common struct {
	broker  connection
	log     logging
	metrics Metrics
	traces  tracing.Config
}

func (c *common) declare(own, shared *pflag.FlagSet) {
	c.broker.declare(own)
	c.metrics.Flags(own)
	c.traces.Flags(own)
	c.log.declare(shared)
	config.Flags(shared, own.Lookup("workers") != nil)
}

func (c *common) check(env func(string) string) error {
	return errors.Join(c.broker.check(env), c.metrics.Check(), c.traces.Complete(env))
}

// reloader reads the settings again.
type reloader struct {
	mu       sync.Mutex
	make     func() Reload
	given    func(*pflag.FlagSet) error // sets the flags that were given on the command line
	around   *Surroundings
	inForce  map[string]string // by flag
	declared []string          // flags, in their order
}

// Reloading makes what reads a program's settings again. given sets the flags that were given on the command line, flags are those in force;
// around has the environment and the log.
func Reloading(again func() Reload, given func(*pflag.FlagSet) error, around *Surroundings, flags *pflag.FlagSet) func() (Reloaded, error) {
	r := &reloader{make: again, given: given, around: around, inForce: map[string]string{}}
	flags.VisitAll(func(f *pflag.Flag) {
		r.inForce[f.Name] = f.Value.String()
		r.declared = append(r.declared, f.Name)
	})
	return r.reload
}

// Given copies the flags that have been set so far. The function that it returns sets them in another set that declares them.
func Given(flags *pflag.FlagSet) func(*pflag.FlagSet) error {
	type one struct {
		name, text string
		list       []string // of a flag that is one
	}
	var all []one
	flags.Visit(func(f *pflag.Flag) {
		o := one{f.Name, f.Value.String(), nil}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			o.list = list.GetSlice()
		}
		all = append(all, o)
	})
	return func(to *pflag.FlagSet) error {
		for _, o := range all {
			f := to.Lookup(o.name)
			if f == nil {
				continue
			}
			if list, ok := f.Value.(pflag.SliceValue); ok {
				if err := list.Replace(o.list); err != nil {
					return err
				}
				f.Changed = true
				continue
			}
			if err := to.Set(o.name, o.text); err != nil {
				return err
			}
		}
		return nil
	}
}

// withCommon is the reload of a program with the flags that all programs have.
func (s *Surroundings) withCommon(again func() Reload, log *logging) func() Reload {
	return func() Reload {
		next, own := common{}, again()
		return Reload{
			Flags: func(f *pflag.FlagSet) { own.Flags(f); next.declare(f, f) },
			Check: func(s *Surroundings) error {
				_, badLog := next.log.logger(s.Err)
				return errors.Join(badLog, next.check(s.Env), own.Check(s))
			},
			Takes: append(slices.Clone(own.Takes), "log-level"),
			Take: func(c *Changes) error {
				err := own.Take(c)
				if err == nil {
					log.lever.Set(levels[next.log.level])
				}
				return err
			},
		}
	}
}

// HostTakes are the flags that can change while a worker-host runs, DispatcherTakes those of a dispatcher. `dspex dev` is both.
var (
	HostTakes = []string{
		"pool-mode", "workers", "overflow", "recycle-jobs", "recycle-age", "recycle-mib", "max-mib", "health-interval", "ping-timeout", "health-failures",
		"breaker-failures", "breaker-successes", "breaker-timeout", "checkout-timeout", "operation-timeout", "job-defaults", "lm", "allow-key-refs", "tenant-weights",
	}
	DispatcherTakes = []string{"error-rate-threshold", "alert-destinations", "tenant-weights"}
)

// followHangups reloads at each signal.
func (s *Surroundings) followHangups(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.Hangup:
			_, _ = s.Reload() // the log has both
		}
	}
}

// Report is a reload as a host answers it.
func Report(done Reloaded, err error) control.Reloaded {
	if err != nil {
		return control.Reloaded{Taken: []Setting{}, Restart: []Setting{}, Faults: strings.Split(err.Error(), "\n")}
	}
	return control.Reloaded{File: done.File, Taken: done.Taken, Restart: done.Restart}
}

// Reload reads the settings again, takes over what can change, and logs what it did. If anything is wrong with them it changes nothing.
func (s *Surroundings) Reload() (Reloaded, error) {
	if s.reload == nil {
		return Reloaded{}, errors.New("nothing can change while this program runs")
	}
	return s.reload()
}

func (r *reloader) reload() (Reloaded, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	done, err := r.once()
	log := r.around.Log
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			log.Error("config_refused", "error", line)
		}
		log.Error("config_unchanged", "hint", "nothing was taken over: the earlier settings stay in force")
		return done, err
	}
	for _, s := range done.Taken {
		log.Info("config_taken", attributes(s)...)
	}
	for _, s := range done.Restart {
		log.Warn("config_needs_restart", append(attributes(s), "hint", "restart to apply: the earlier value stays in force")...)
	}
	log.Info("config_reloaded", "path", done.File, "taken", len(done.Taken), "need_restart", len(done.Restart))
	return done, nil
}

func attributes(s Setting) []any {
	all := []any{slog.String("key", s.Key)}
	for _, a := range []slog.Attr{slog.String("was", s.Was), slog.String("is", s.Is), slog.String("why", s.Why)} {
		if a.Value.String() != "" {
			all = append(all, a)
		}
	}
	return all
}

// once reads the settings as at a start, and applies what has changed.
func (r *reloader) once() (done Reloaded, err error) {
	again, flags := r.make(), pflag.NewFlagSet("", pflag.ContinueOnError)
	again.Flags(flags)
	if err := r.given(flags); err != nil {
		return done, err
	}
	file, wrong := config.Set(flags, r.around.Env, ".")
	if err := errors.Join(wrong, file.Locate(again.Check(r.around))); err != nil {
		return done, err
	}
	for _, w := range file.Warnings {
		r.around.Log.Warn("config_warning", "text", w)
	}
	found := &Changes{flags: r.changed(flags), kept: map[string]string{}}
	if err := again.Take(found); err != nil {
		return done, err
	}
	return r.conclude(file, found, again.Takes), nil
}

func (r *reloader) changed(flags *pflag.FlagSet) map[string]change {
	all := map[string]change{}
	for _, name := range r.declared {
		if f := flags.Lookup(name); f != nil && f.Value.String() != r.inForce[name] {
			all[name] = change{r.inForce[name], f.Value.String(), f.Value.Type()}
		}
	}
	return all
}

// conclude sums up what was taken over, which is in force from now on.
func (r *reloader) conclude(file *config.File, found *Changes, takes []string) Reloaded {
	done := Reloaded{File: file.Path, Taken: []Setting{}, Restart: []Setting{}}
	for _, name := range r.declared {
		c, changed := found.flags[name]
		why, kept := found.kept[name]
		if !changed && !kept && !slices.Contains(found.content, name) {
			continue
		}
		s := Setting{Key: file.KeyOf(name), Why: why}
		if slices.Contains([]string{"int", "int64", "float64", "duration", "bool", "size", "weights"}, c.kind) {
			s.Was, s.Is = c.was, c.is
		}
		if kept || !slices.Contains(takes, name) {
			done.Restart = append(done.Restart, s)
			continue
		}
		done.Taken = append(done.Taken, s)
		if changed {
			r.inForce[name] = c.is
		}
	}
	return done
}
