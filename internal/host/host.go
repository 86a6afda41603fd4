// Package host is the data plane: it owns partitions, keeps each session's jobs in order, runs them in the pool's workers
// and commits their outcomes. The commit order and its rules (one judge, compare-and-set, result before ack) are the shape of
// this package: record, then result and reply, then ack, then the session's next job.
//
// It starts no Python (package pyproc does) and decides no assignment (package dispatch does).
package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/dspex/dspex/internal/breaker"
	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/host/telemetry"
	"github.com/dspex/dspex/internal/host/workers"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/stream"
)

// Models turns a choice of language model into the LM frame that defines it.
type Models interface {
	// Named finds a profile of the host; Chosen one that a client asked for by set_lm arguments; Default the host's own
	// ("" when there is none; an error when it cannot be used). The key changes whenever the profile's content does.
	Named(name string) (jobs.Model, *jobs.Error)
	Chosen(args []byte) (jobs.Model, *jobs.Error)
	Default() (jobs.Model, *jobs.Error)
	SetDefault(args []byte) *jobs.Error
}

// Config says what a host works with. Zero durations mean the documented defaults.
type Config struct {
	Name            string
	NC              *nats.Conn
	Pool            workers.Pool
	Models          Models
	Log             *slog.Logger
	Capacity        int           // slots of the pool, for the planner
	Sandbox         string        // what the workers are kept from, "" if nobody can tell
	Engine          func() string // of the workers, "" while none has started; nil: not told in heartbeats
	SessionIdle     time.Duration // default 1 h
	CheckoutTimeout time.Duration // default 5 s
	Grace           time.Duration // for running jobs at the end, default 30 s
	Breaker         breaker.Config
	Defaults        jobs.Defaults // of jobs' options
	Machine         clock.Machine // whose clocks are read; nil: this one's, as Go reads them
	// OnReady is called once, when the host is known to be the only one of its name and takes partitions.
	OnReady func()
	// OnRaised is called after each attempt that ended in an exception of the operator's code; it must not block. nil: nobody looks.
	OnRaised func(Raised)
}

// Raised is an attempt that ended in an exception.
type Raised struct {
	Session, Job, Command string
	Program               string // that execute_program named
	Attempt               int
	Error                 *jobs.Error
}

// Host runs jobs. Make it with New, then Run it once.
type Host struct {
	cfg         Config
	log         *slog.Logger
	nc          *nats.Conn
	js          jetstream.JetStream
	writer      *stream.Writer
	records     *stream.Bucket
	results     *stream.Bucket
	control     *stream.Bucket
	claims      *stream.Claims
	incarnation string
	memory      memory      // of the bucket of records
	accounts    atomic.Bool // tenants have accounts of their own
	started     int64       // unix ms by the broker's clock
	began       clock.Mono  // then, too
	clock       *stream.Clock
	maxPayload  int
	assigned    *assignments
	sent        sentProfiles
	pushed      pushed
	telemetry   *telemetry.Recorder
	breakers    *breaker.Set
	outages     outages
	ends        ends
	speaks      sync.Map     // command -> true: those of the operator that were seen to call a language model, as many as the workers' tables have
	silent      sync.Map     // program id -> true: those of the operator whose last run called no model; a session's own always do
	exclusive   sync.Map     // command -> true: those that a worker has said to run alone, as many as its table has
	held        atomic.Int64 // bytes of waiting payloads
	full        atomic.Int64 // writers that wait for room in the broker's store
	parts       sync.Map     // int -> *partition: the epochs that are served now
	tenures     sync.Map     // int -> *tenure: the partitions that are held, or whose last jobs still run
	turns       turns
	waiting     [turnKinds]atomic.Int64 // sessions whose job waits for a slot of the pool
	runs        anonymousRuns
	rules       lifecycle.Config
	watches     sync.WaitGroup // those who watch breakers
	lanes       *lanes
	draining    atomic.Bool // the operator wants it empty
	stopping    atomic.Bool // Run's context has ended
	hurry       chan struct{}
	hurried     sync.Once
	work        context.Context // ends the doing; Run's context ends the taking
}

// New checks the configuration.
func New(cfg Config) (*Host, error) {
	var errs []error
	if !jobs.ValidSession(cfg.Name) {
		errs = append(errs, fmt.Errorf("host name %q: expected 1 to 64 of A-Z a-z 0-9 _ -", cfg.Name))
	}
	if cfg.NC == nil || cfg.Pool == nil || cfg.Models == nil {
		errs = append(errs, errors.New("a connection, a pool and models are needed"))
	}
	if cfg.SessionIdle == 0 {
		cfg.SessionIdle = time.Hour
	}
	if cfg.CheckoutTimeout == 0 {
		cfg.CheckoutTimeout = jobs.CheckoutTimeout
	}
	if cfg.Grace == 0 {
		cfg.Grace = 30 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	h := &Host{cfg: cfg, log: cfg.Log, nc: cfg.NC, incarnation: nuid.Next(), hurry: make(chan struct{}), lanes: lanesFor(cfg.Capacity), telemetry: telemetry.New()}
	h.protect()
	return h, errors.Join(append(errs, cfg.Breaker.WithDefaults().Check())...)
}

// Run serves until ctx ends, then lets running jobs finish within the grace, gives its partitions back and returns when all
// it started has ended.
func (h *Host) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err := h.open(ctx)
	if h.writer != nil {
		defer h.writer.Close()
	}
	if err != nil {
		return err
	}
	h.started, h.began = h.now().UnixMilli(), h.clock.Mono()
	work, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	h.work = work
	h.turns.open(h.cfg.Capacity + spareTurns)
	defer stop(nil)
	beat, err := h.announce(ctx)
	if err != nil {
		return err
	}
	alone, err := h.watchTwin(func(err error) { cancel(err); stop(err) })
	if err != nil {
		return err
	}
	defer alone()
	deaf, err := h.listen(work)
	if err != nil {
		return err
	}
	defer deaf()
	h.beat(false) // before it takes a partition: who finds its name there has heard of it
	var wg sync.WaitGroup
	wg.Go(func() { h.followDefaultLM(ctx) })
	known := make(chan struct{})
	wg.Go(func() { h.followPrograms(ctx, sync.OnceFunc(func() { close(known) })) })
	h.awaitPrograms(ctx, known)
	wg.Go(func() { h.tendAll(ctx, &wg) })
	for _, lane := range []string{jobs.LaneInteractive, jobs.LaneBatch} {
		wg.Go(func() { h.anonymous(ctx, lane) })
	}
	var last sync.WaitGroup // these serve until the doing has ended
	defer last.Wait()
	defer h.watches.Wait()
	defer stop(nil)
	last.Go(func() { stream.FollowEntries(work, h.js, stream.Assign, jobs.AssignmentKeys, h.log, h.assigned.apply) })
	last.Go(func() { h.ward(work) })
	last.Go(func() { h.hearOutages(work, jobs.BreakerKeys) })
	last.Go(func() { h.hearOutages(work, jobs.FailureKeys) })
	last.Go(func() { h.shareOutages(work) })
	last.Go(func() { h.clock.Follow(work) })
	last.Go(func() { h.followAccounts(work) })
	present, goodbye := context.WithCancel(context.WithoutCancel(ctx))
	defer goodbye()
	last.Go(func() { beat(present) })
	if h.cfg.OnReady != nil {
		h.cfg.OnReady()
	}
	last.Go(func() { h.followDrain(present) })
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	<-ctx.Done()
	h.finish(done, stop)
	if err := context.Cause(ctx); errors.Is(err, errTwin) {
		return err
	}
	return nil
}

// listen hears cancellations, questions about breakers, erased sessions and who listens to telemetry, until deaf is called.
func (h *Host) listen(ctx context.Context) (deaf func(), err error) {
	stopCancel, err := h.listenCancel(ctx)
	if err != nil {
		return nil, err
	}
	stopBreakers, err := h.serveBreakers()
	if err != nil {
		return nil, err
	}
	stopDrops, err := h.hearDrops()
	if err != nil {
		return nil, err
	}
	stopTelling, err := h.telemetry.Listen(h.nc, h.cfg.Name)
	return func() { stopTelling(); stopDrops(); stopBreakers(); stopCancel() }, err
}

// open reads what the broker holds.
func (h *Host) open(ctx context.Context) (err error) {
	if h.js, err = jetstream.New(h.nc); err != nil {
		return err
	}
	if err := stream.Await(ctx, h.js, h.log); err != nil {
		return err
	}
	err = stream.Settle(ctx, h.log, stream.Passes, func(ctx context.Context) (err error) {
		if err := h.learnAccounts(ctx); err != nil {
			return err
		}
		h.clock, err = stream.NewClock(ctx, h.js, clock.New(h.cfg.Machine), h.log)
		return err
	})
	if err != nil {
		return err
	}
	h.maxPayload = int(h.nc.MaxPayload())
	h.rules = lifecycle.Config{Host: h.cfg.Name, Clock: h.clock, MaxPayload: h.maxPayload, SessionIdle: h.cfg.SessionIdle,
		CheckoutTimeout: h.cfg.CheckoutTimeout, DeadWindow: stream.DeadWindow, Defaults: h.cfg.Defaults, Chance: rand.Float64}
	if h.writer, err = stream.NewWriter(h.nc); err != nil {
		return err
	}
	h.records = stream.NewBucket(h.nc, h.writer, stream.Sessions)
	h.results = stream.NewBucket(h.nc, h.writer, stream.Results)
	h.control = stream.NewBucket(h.nc, h.writer, stream.Control)
	assign := stream.NewBucket(h.nc, h.writer, stream.Assign)
	h.claims = stream.NewClaims(h.js, assign)
	err = stream.Settle(ctx, h.log, stream.Passes, func(ctx context.Context) error {
		drain, err := h.control.Get(ctx, jobs.DrainKey(h.cfg.Name))
		h.draining.Store(jobs.IsDrain(drain.Value))
		return err
	})
	if err != nil {
		return err
	}
	h.assigned = newAssignments(h.log)
	return nil
}
