//go:build linux

// Command bench measures dspex against the raw limits of the machine that it runs on: every ratio is formed from figures of
// the same run. It starts all that it measures as processes of their own and stops them again. docs/benchmarks.md reports what
// each part means. Nothing in it is a test: absolute times are the machine's.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/dspex/dspex/test/bench/web"
)

// chapter is a part of the bench.
type chapter struct {
	name string
	run  func(context.Context, *options, *report) error
}

// parts in the order in which they run.
var parts = []chapter{
	{"pipe", measurePipe},
	{"single", measureSingle},
	{"endpoint", measureEndpoint},
	{"gateway", measureGateway},
	{"batch", measureBatch},
	{"calls", measureCalls},
	{"dspy", measureDSPy},
	{"start", measureStart},
}

// faultParts take long: they run when they are requested by name.
var faultParts = []chapter{
	{"workers", measureWorkers},
	{"kill", measureKill},
	{"silence", measureSilence},
	{"restart", measureRestart},
	{"scale", measureScale},
	{"sticky", measureSticky},
	{"deadline", measureDeadline},
	{"overload", measureOverload},
	{"accounts", measureAccounts},
	{"bulk", measureBulk},
	{"bulkkill", measureBulkKill},
	{"streams", measureStreams},
	{"tracing", measureTracing},
	{"dashboard", measureDashboard},
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(args) > 0 && args[0] == "role" {
		return play(ctx, args[1:])
	}
	runtime.LockOSThread() // children die with the thread that started them: it must be the one that lives longest
	o, err := parse(args)
	if err != nil {
		return err
	}
	if o.dir, err = os.MkdirTemp("", "dspex-bench-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(o.dir) }()
	r := newReport(o)
	chosen := strings.Split(o.part, ",")
	for i, p := range slices.Concat(parts, faultParts) {
		if !slices.Contains(chosen, p.name) && (o.part != "all" || i >= len(parts)) {
			continue
		}
		if err := p.run(ctx, o, r); err != nil {
			return fmt.Errorf("part %s: %w", p.name, err)
		}
	}
	return r.end(o.json)
}

func parse(args []string) (*options, error) {
	o := &options{}
	var names []string
	for _, p := range slices.Concat(parts, faultParts) {
		names = append(names, p.name)
	}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&o.part, "part", "all", "parts to measure, comma separated: "+strings.Join(names, ", "))
	f.StringVar(&o.bin, "bin", "bin", "directory of the built binaries")
	f.StringVar(&o.python, "python", "python3", "interpreter of the stub engine's workers; with msgspec, as the lock installs it")
	f.StringVar(&o.config, "config", "nats.conf", "configuration of a broker with accounts, for the part accounts")
	f.StringVar(&o.json, "json", "", "also write the figures into this file")
	f.StringVar(&o.runtime, "runtime", "", "in the part calls also measure the worker of another checkout: its directory python")
	f.IntVar(&o.rounds, "rounds", 3, "interleaved rounds, of which the median counts")
	f.IntVar(&o.faults, "faults", 51, "faults of each kind in the parts kill, silence, restart and deadline")
	f.IntVar(&o.bulk, "bulk", 100_000, "jobs of the batch in the part bulkkill, and of the first one in bulk; the second one has four times as many")
	f.DurationVar(&o.slice, "slice", 1500*time.Millisecond, "length of one measurement")
	f.BoolVar(&o.syncAlways, "sync-always", false, "broker with sync_interval: always, for the parts and for the whole")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	var errs []error
	if f.NArg() > 0 {
		errs = append(errs, fmt.Errorf("unexpected argument %q", f.Arg(0)))
	}
	for p := range strings.SplitSeq(o.part, ",") {
		if p != "all" && !slices.Contains(names, p) {
			errs = append(errs, fmt.Errorf("part %q: expected all, or some of %s", p, strings.Join(names, ", ")))
		}
	}
	if o.bulk < 1000 || o.bulk > 200_000 {
		errs = append(errs, errors.New("expected 1000 to 200000 jobs in -bulk"))
	}
	if o.faults < 1 || o.faults > 10_000 {
		errs = append(errs, errors.New("expected 1 to 10000 faults"))
	}
	if o.rounds < 1 || o.rounds > 100 || o.slice < 100*time.Millisecond || o.slice > time.Minute {
		errs = append(errs, errors.New("expected 1 to 100 rounds and a slice of 100ms to 1m"))
	}
	var err error
	if o.self, err = os.Executable(); err != nil {
		errs = append(errs, err)
	}
	for _, name := range []string{"dispatcher", "worker-host", "dspex"} {
		if _, err := os.Stat(filepath.Join(o.bin, name)); err != nil {
			errs = append(errs, fmt.Errorf("%w: make build makes it, -bin says where it is", err))
		}
	}
	return o, errors.Join(errs...)
}

// play is a process that the bench starts of itself.
func play(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("which role?")
	}
	f := flag.NewFlagSet(args[0], flag.ContinueOnError)
	server := f.String("server", "", "URL of the broker")
	dir := f.String("dir", "", "directory of the broker's data")
	listen := f.String("listen", "127.0.0.1:0", "")
	syncAlways := f.Bool("sync-always", false, "")
	memory := f.Int("memory", brokerMemory, "MiB that the broker keeps to: GOMEMLIMIT")
	config := f.String("config", "", "of the broker: it has accounts")
	inbox := f.String("inbox", "", "prefix of the client's inboxes")
	python := f.String("python", "", "")
	workers := f.Int("workers", 2, "")
	modules := f.String("modules", "", "")
	method := f.String("start", "", "")
	runtimeDir := f.String("runtime", "", "")
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	switch args[0] {
	case "broker":
		return playBroker(ctx, *listen, *dir, *config, *memory, *syncAlways)
	case "peer":
		return playPeer(ctx, *server)
	case "writer":
		return playWriter(ctx, *server)
	case "client":
		return playClient(*server, *inbox)
	case "web":
		return web.Load(*server)
	case "bare":
		return web.Bare(ctx, *server)
	case "collector":
		return web.Collector(ctx)
	case "talker":
		return web.Talker(ctx, *server)
	case "listener":
		return web.Listen(*server)
	case "staff":
		return playStaff(ctx, *modules, *method == "zygote")
	case "calls":
		return playCalls(ctx, *runtimeDir, *modules, *server)
	case "pipe":
		return playPipe(ctx, *python, *workers)
	}
	return fmt.Errorf("role %q is unknown", args[0])
}
