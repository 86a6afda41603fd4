package pyproc

import (
	"errors"
	"fmt"
	"time"

	"github.com/dspex/dspex/internal/pyproc/pace"
)

// Options are what the people who run a host may choose about its workers.
type Options struct {
	Overflow      int           // workers above the pool's size while callers wait
	Module        string        // "enhanced" or "basic", or the original's names of these
	Start         string        // "zygote" or "spawn"
	RecycleJobs   int           // 0: never
	RecycleAge    time.Duration // 0: never
	RecycleMemory int           // MiB, 0: never
	MaxMemory     int           // MiB, 0: any

	HealthInterval time.Duration // between two PINGs
	PingTimeout    time.Duration // for the answer
	HealthFailures int           // PINGs in a row without one, after which a worker is replaced
}

// DefaultOptions are those of the documentation.
func DefaultOptions() Options {
	r := Recycle{}.WithDefaults()
	return Options{Overflow: 2, HealthInterval: 2 * time.Second, PingTimeout: 5 * time.Second, HealthFailures: 3, Module: "enhanced", Start: startZygotes, RecycleJobs: r.Jobs, RecycleAge: r.Age, RecycleMemory: int(r.Memory >> 20), MaxMemory: int(r.HardMemory >> 20)}
}

// FlagSet is what the flag packages have in common.
type FlagSet interface {
	IntVar(p *int, name string, value int, usage string)
	StringVar(p *string, name, value, usage string)
	DurationVar(p *time.Duration, name string, value time.Duration, usage string)
}

// Flags defines a flag for each option, with the documented default.
func (o *Options) Flags(f FlagSet) {
	d := DefaultOptions()
	f.IntVar(&o.Overflow, "overflow", d.Overflow, "workers more while calls wait for a slot")
	f.StringVar(&o.Module, "worker-module", d.Module, "enhanced (heartbeats, warm sessions) or basic (neither; ready sooner)")
	f.StringVar(&o.Start, "start", d.Start, "zygote (import once, fork each worker; on Linux) or spawn (each worker by itself)")
	f.IntVar(&o.RecycleJobs, "recycle-jobs", d.RecycleJobs, "jobs after which a worker is replaced; 0: never")
	f.DurationVar(&o.RecycleAge, "recycle-age", d.RecycleAge, "age at which a worker is replaced; 0: never")
	f.IntVar(&o.RecycleMemory, "recycle-mib", d.RecycleMemory, "MiB of its own memory at which a worker is replaced; 0: never")
	f.DurationVar(&o.HealthInterval, "health-interval", d.HealthInterval, "time between two health checks (pings) of a worker")
	f.DurationVar(&o.PingTimeout, "ping-timeout", d.PingTimeout, "how long a worker may take to answer a ping")
	f.IntVar(&o.HealthFailures, "health-failures", d.HealthFailures, "pings in a row without an answer after which a worker is replaced")
	f.IntVar(&o.MaxMemory, "max-mib", d.MaxMemory, "MiB of its own memory at which a worker is killed; 0: never")
}

// How workers are started.
const (
	startZygotes = "zygote"
	startSpawn   = "spawn"
)

var modules = map[string]bool{ // basic?
	"enhanced": false, "PoolWorkerV2Enhanced": false, "DSPex.PythonBridge.PoolWorkerV2Enhanced": false,
	"basic": true, "PoolWorkerV2": true, "DSPex.PythonBridge.PoolWorkerV2": true,
}

// Basic reports whether the workers go without heartbeats and warm sessions.
func (o Options) Basic() bool { return modules[o.Module] }

const (
	minHealth   = 100 * time.Millisecond // less finds a busy machine, not a worker that hangs
	maxOverflow = 256                    // as many as the largest pool
	maxMiB      = 1 << 22                // 4 TiB: more is a mistake of units
)

// Check reports everything that is wrong with the options, at once.
func (o Options) Check() error {
	var all []error
	expect := func(ok bool, format string, args ...any) {
		if !ok {
			all = append(all, fmt.Errorf(format, args...))
		}
	}
	_, known := modules[o.Module]
	expect(o.Overflow >= 0 && o.Overflow <= maxOverflow, "--overflow must be 0 to %d workers, got %d", maxOverflow, o.Overflow)
	expect(known, "--worker-module must be enhanced or basic (or the original's PoolWorkerV2Enhanced or PoolWorkerV2), got %q", o.Module)
	expect(o.Start == startZygotes || o.Start == startSpawn, "--start must be zygote or spawn, got %q", o.Start)
	expect(o.RecycleJobs >= 0, "--recycle-jobs must be 0 (never) or more, got %d", o.RecycleJobs)
	expect(o.RecycleAge == 0 || o.RecycleAge >= pace.MinLife, "--recycle-age must be 0 (never) or at least %v, got %v", pace.MinLife, o.RecycleAge)
	expect(o.RecycleMemory >= 0 && o.RecycleMemory <= maxMiB, "--recycle-mib must be 0 (never) to %d, got %d", maxMiB, o.RecycleMemory)
	expect(o.HealthInterval >= minHealth && o.HealthInterval <= time.Hour, "--health-interval must be %v to 1h, got %v", minHealth, o.HealthInterval)
	expect(o.PingTimeout >= minHealth && o.PingTimeout <= time.Hour, "--ping-timeout must be %v to 1h, got %v", minHealth, o.PingTimeout)
	expect(o.HealthFailures >= 1 && o.HealthFailures <= 100, "--health-failures must be 1 to 100, got %d", o.HealthFailures)
	expect(o.MaxMemory >= 0 && o.MaxMemory <= maxMiB, "--max-mib must be 0 (never) to %d, got %d", maxMiB, o.MaxMemory)
	expect(o.MaxMemory == 0 || o.MaxMemory > o.RecycleMemory, "--max-mib must be more than --recycle-mib (%d), else a worker ends before it is replaced; got %d", o.RecycleMemory, o.MaxMemory)
	return errors.Join(all...)
}

// Apply puts checked options into a Config.
func (o Options) Apply(c *Config) {
	c.Overflow, c.Basic, c.Zygote, c.Spares = o.Overflow, o.Basic(), o.Start == startZygotes, 1
	// The last of the pings that fail is sent this long after the first, and fails a timeout later.
	c.PingEvery, c.PingLost = o.HealthInterval, time.Duration(o.HealthFailures-1)*o.HealthInterval+o.PingTimeout
	c.Recycle = Recycle{Jobs: orNever(o.RecycleJobs), Age: orNever(o.RecycleAge),
		Memory: orNever(int64(o.RecycleMemory) << 20), HardMemory: orNever(int64(o.MaxMemory) << 20)}
}

// orNever spells 0, which means never to people, as Recycle does.
func orNever[T int | int64 | time.Duration](n T) T {
	if n == 0 {
		return -1
	}
	return n
}
