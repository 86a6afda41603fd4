package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/daemon"
	"github.com/dspex/dspex/internal/devserver"
)

// rereading reads the settings of `dspex dev` again, at SIGHUP and at `dspex reload`.
type rereading struct {
	app    *cli.App
	read   func() (daemon.Reloaded, error)
	adjust atomic.Pointer[func(devserver.Config) (devserver.Adjusted, error)] // nil before all is ready
}

func newRereading(a *cli.App, given func(*pflag.FlagSet) error, flags *pflag.FlagSet, again func() next) *rereading {
	r := &rereading{app: a}
	around := &daemon.Surroundings{Env: a.Env, Err: io.Discard, Log: slog.New(slog.DiscardHandler)}
	r.read = daemon.Reloading(func() daemon.Reload {
		n := again()
		return daemon.Reload{Flags: n.declare, Takes: slices.Concat(daemon.HostTakes, daemon.DispatcherTakes), Check: func(*daemon.Surroundings) error { return n.check(a.Env) },
			Take: func(c *daemon.Changes) error { return r.take(*n.cfg, c) }}
	}, given, around, flags)
	return r
}

// next are the settings that are read again.
type next struct {
	declare func(*pflag.FlagSet)
	check   func(env func(string) string) error
	cfg     *devserver.Config
}

func (r *rereading) take(next devserver.Config, c *daemon.Changes) error {
	adjust := r.adjust.Load()
	if adjust == nil {
		return errors.New("nothing runs yet: reload it when it has written its line \"ready\"")
	}
	found, err := (*adjust)(next)
	for _, flag := range found.Content {
		c.Content(flag)
	}
	for flag, why := range found.Kept {
		c.Keep(flag, why)
	}
	return err
}

// now reads the settings again, shows what was taken over, and reports it.
func (r *rereading) now() control.Reloaded {
	done := daemon.Report(r.read())
	a := r.app
	say := func(format string, args ...any) { fmt.Fprintf(a.Err, format+"\n", args...) }
	for _, fault := range done.Faults {
		say("%s", a.Paint(a.Err, cli.Red, cli.Clean(fault)))
	}
	if len(done.Faults) > 0 {
		say("%s", a.Paint(a.Err, cli.Red, "the settings stay as they were: nothing was taken over"))
		return done
	}
	say("%s %s", a.Paint(a.Err, cli.Green, "reloaded"), cli.FirstOf(cli.Clean(done.File), "no file of settings"))
	for _, s := range done.Taken {
		say("  taken over     %s", cli.Setting(s.Key, s.Was, s.Is, s.Why))
	}
	for _, s := range done.Restart {
		say("  needs restart  %s", cli.Setting(s.Key, s.Was, s.Is, s.Why))
	}
	return done
}

// watch reads the settings again at each SIGHUP until end is called. One that comes because its terminal was closed ends the program.
func (r *rereading) watch(ctx context.Context, closed func()) (end func()) {
	if signal.Ignored(syscall.SIGHUP) { // nohup
		return func() {}
	}
	hangups, over := make(chan os.Signal, 1), make(chan struct{})
	attached := cli.IsTerminal(r.app.Err)
	signal.Notify(hangups, syscall.SIGHUP)
	var watches sync.WaitGroup
	watches.Go(func() {
		for {
			select {
			case <-hangups:
				if attached && !cli.IsTerminal(r.app.Err) {
					closed()
					return
				}
				r.now()
			case <-ctx.Done():
				return
			case <-over:
				return
			}
		}
	})
	return func() {
		signal.Stop(hangups)
		close(over)
		watches.Wait()
	}
}
