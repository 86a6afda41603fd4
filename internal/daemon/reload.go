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
	args     []string
	around   *Surroundings
	log      *logging
	inForce  map[string]string // by flag
	declared []string          // flags, in their order
}

func newReloader(again func() Reload, args []string, s *Surroundings, flags *pflag.FlagSet, log *logging) *reloader {
	r := &reloader{make: again, args: args, around: s, log: log, inForce: map[string]string{}}
	flags.VisitAll(func(f *pflag.Flag) {
		r.inForce[f.Name] = f.Value.String()
		r.declared = append(r.declared, f.Name)
	})
	return r
}

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
		log.Info("config_taken", s.attributes()...)
	}
	for _, s := range done.Restart {
		log.Warn("config_needs_restart", append(s.attributes(), "hint", "restart to apply: the earlier value stays in force")...)
	}
	log.Info("config_reloaded", "path", done.File, "taken", len(done.Taken), "need_restart", len(done.Restart))
	return done, nil
}

func (s Setting) attributes() []any {
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
	next, again, flags := common{}, r.make(), pflag.NewFlagSet("", pflag.ContinueOnError)
	again.Flags(flags)
	next.declare(flags, flags)
	if err := flags.Parse(r.args); err != nil {
		return done, err
	}
	file, wrong := config.Set(flags, r.around.Env, ".")
	_, badLog := next.log.logger(r.around.Err)
	if err := errors.Join(wrong, file.Locate(errors.Join(badLog, next.check(r.around.Env), again.Check(r.around)))); err != nil {
		return done, err
	}
	for _, w := range file.Warnings {
		r.around.Log.Warn("config_warning", "text", w)
	}
	found := &Changes{flags: r.changed(flags), kept: map[string]string{}}
	if err := again.Take(found); err != nil {
		return done, err
	}
	r.log.lever.Set(levels[next.log.level])
	return r.conclude(file, found, append(again.Takes, "log-level")), nil
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
