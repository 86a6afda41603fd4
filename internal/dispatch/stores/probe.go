package stores

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/dispatch/endpoint"
	"github.com/dspex/dspex/internal/dispatch/fleet"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// A broker can answer every request and store nothing: its disk is full, or was. So every dispatcher writes a small message
// into each broker object, reads it back and removes it, again and again.

const (
	probeEach    = 10 * time.Second // between two rounds; New
	probeAgain   = time.Second      // after a round in which something took nothing
	probeTimeout = 20 * time.Second // of one round
	// storesTimeout is for one look at the objects, with what it makes, and for one change of them.
	storesTimeout = 10 * time.Second
	// fullFrom is the share of an object's room from which health warns.
	fullFrom = 0.7
)

// Probes report which broker objects take writes.
type Probes struct {
	broker    *stream.Access
	hosts     *fleet.Fleet
	log       *slog.Logger
	clustered bool
	each      time.Duration // between two rounds
	minAge    time.Duration // of outcomes that may go before their time; 0: none
	diagnoses diagnoses

	mu    sync.Mutex
	why   map[string]error // object -> why it does not take a write; those that do are left out
	fill  map[string]fill  // of the objects that refuse what has no room
	blind error            // the last look at the objects failed
	// suspected were found to take nothing in the last round.
	suspected map[string]bool
}

// fill is how much of its room an object uses.
type fill struct{ used, room int64 }

func (f fill) share() float64 { return float64(f.used) / float64(f.room) }

// Follow probes the broker objects until ctx ends, each ProbeEach, sooner while something takes nothing, and after a reconnect.
func (v *Probes) Follow(ctx context.Context) {
	connected, stop := v.broker.Reconnects()
	defer stop()
	for {
		pause := v.each
		if !v.probeAll(ctx) {
			pause = min(pause, probeAgain)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		case <-connected:
		}
	}
}

// probeAll probes all objects at once: those that take nothing take their time. It reports whether all take what they are given.
func (v *Probes) probeAll(ctx context.Context) bool {
	if !v.broker.Connected() {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	why := map[string]error{}
	for _, name := range stream.Objects() {
		wg.Go(func() {
			if err := stream.Probe(ctx, v.broker.JS, v.broker.Writer, name); err != nil {
				mu.Lock()
				defer mu.Unlock()
				why[name] = err
			}
		})
	}
	wg.Wait()
	if ctx.Err() == nil {
		v.noteProbes(why)
	}
	return len(why) == 0
}

// noteProbes keeps what a round has found, and logs what is new.
func (v *Probes) noteProbes(why map[string]error) {
	v.mu.Lock()
	before := v.why
	if v.clustered {
		v.confirm(why)
	}
	v.why = why
	v.mu.Unlock()
	for name, err := range why {
		if before[name] == nil {
			hint := "the broker is away, or elects a leader"
			if errors.Is(err, stream.ErrStoreFull) {
				hint = storeHint
			}
			v.log.Error("store_takes_nothing", "stream", name, "error", err, "hint", hint)
		}
	}
	for name := range before {
		if why[name] == nil {
			v.log.Info("store_takes_again", "stream", name)
		}
	}
}

// errOnce stands for what only one round has found.
var errOnce = errors.New("its leader answers but acknowledges no write; the next round decides whether its disk is full")

// confirm leaves it to the next round to call an object full. In a cluster an election or a machine that stalls looks like a full
// disk for a while, and calls must not be refused for that.
func (v *Probes) confirm(why map[string]error) {
	before := v.suspected
	v.suspected = map[string]bool{}
	for name, err := range why {
		if !errors.Is(err, stream.ErrTakesNothing) {
			continue
		}
		v.suspected[name] = true
		if !before[name] {
			why[name] = errOnce
		}
	}
}

const storeHint = "make room on the broker's disk, then restart nats-server: it does not recover by itself (docs/operations.md, \"A full disk\")"

// NewProbes makes a round each so long; minAge is that of outcomes that may go when there is no room, 0 if none may.
func NewProbes(broker *stream.Access, hosts *fleet.Fleet, log *slog.Logger, clustered bool, each, minAge time.Duration) *Probes {
	return &Probes{broker: broker, hosts: hosts, log: log, clustered: clustered, each: cmp.Or(each, probeEach), minAge: minAge}
}

// Wait lets no further diagnosis start, and waits for those that run.
func (v *Probes) Wait() { v.diagnoses.end() }

// blocks is why a job of the stream cannot be run: there, in the records or in the outcomes no room is left. nil: it can.
func (v *Probes) blocks(queue string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, name := range []string{queue, stream.RecordsStream, stream.ResultsStream} {
		if err := v.why[name]; errors.Is(err, stream.ErrStoreFull) {
			return fmt.Errorf("stream %s: %w", name, err)
		}
	}
	return nil
}

// Takes is why an object was found to take nothing; nil: it takes what it is given.
func (v *Probes) Takes(name string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.why[name]
}

// Dead is why the service cannot go on at all: the broker stores nothing, or neither records nor outcomes have room. A queue that is
// full of waiting jobs is not that.
func (v *Probes) Dead() error {
	for _, queue := range []string{stream.Jobs, stream.Anonymous} {
		if err := v.blocks(queue); err != nil && (errors.Is(err, stream.ErrTakesNothing) || v.blocks("") != nil) {
			return err
		}
	}
	return nil
}

// Reasons report to the health check what takes nothing, and what is nearly full.
func (v *Probes) Reasons() (all []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, name := range stream.Objects() {
		if err := v.why[name]; err != nil {
			all = append(all, fmt.Sprintf("stream %s accepts no writes: %v", name, err))
		}
		if f := v.fill[name]; f.room > 0 && f.share() >= fullFrom {
			all = append(all, fmt.Sprintf("stream %s uses %.0f %% of its %d MiB, and refuses messages when it is full: %s", name, 100*f.share(), f.room>>20, stream.ResizeHint(name)))
		}
	}
	if v.blind != nil {
		all = append(all, fmt.Sprintf("the broker does not answer for its streams: %v", v.blind))
	}
	return all
}

// measured notes a look at the broker objects.
func (v *Probes) measured(found stream.Survey, err error) (warn []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.blind = err
	if err != nil {
		return nil
	}
	before := v.fill
	v.fill = map[string]fill{}
	for name, s := range found.Bounded {
		f := fill{int64(s.Used), s.Room}
		v.fill[name] = f
		if was := before[name]; f.share() >= fullFrom && (was.room == 0 || was.share() < fullFrom) {
			warn = append(warn, name)
		}
	}
	slices.Sort(warn)
	return warn
}

// Now are the numbers for metrics: whether each object takes writes, as far as is known, and how much of its room it uses.
func (v *Probes) Now() (takes, filled map[string]float64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	takes = map[string]float64{}
	for _, name := range stream.Objects() {
		takes[name] = 1
		if v.why[name] != nil {
			takes[name] = 0
		}
	}
	filled = map[string]float64{stream.Jobs: 0, stream.Anonymous: 0, stream.ResultsStream: 0} // until they were looked at
	for name, f := range v.fill {
		filled[name] = f.share()
	}
	return takes, filled
}

// Blocked reports that the broker answers but stores nothing, as a nats-server does from a full disk on until it is restarted.
func (v *Probes) Blocked() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, err := range v.why {
		if errors.Is(err, stream.ErrTakesNothing) {
			return true
		}
	}
	return false
}

// Refusal is why no job of a stream is to be accepted now; nil: they can.
func (v *Probes) Refusal(queue string) *jobs.Error {
	if err := v.blocks(queue); err != nil {
		return endpoint.NotAccepted(err)
	}
	if v.hosts.StoreFull() {
		return endpoint.NotAccepted(stream.ErrStoreFull)
	}
	return nil
}

// Diagnose hands on what lies behind a write to an object that was not acknowledged. It does not block.
func (v *Probes) Diagnose(name string, err error, then func(error)) {
	if !errors.Is(err, stream.ErrUnknown) || errors.Is(err, stream.ErrNoStream) {
		then(err)
		return
	}
	if v.clustered { // the probes distinguish an election from a full disk, in two rounds
		if known := v.Takes(name); errors.Is(known, stream.ErrStoreFull) {
			err = known
		}
		then(err)
		return
	}
	find := func() error { return stream.Diagnose(context.Background(), v.broker.NC, v.broker.Writer, name, err) }
	if !v.diagnoses.begin(func() { then(v.diagnoses.of(name, find)) }) {
		then(err)
	}
}

// diagnoses are shared by all who wait for one of the same object: a full disk fails thousands of writes at once.
type diagnoses struct {
	mu     sync.Mutex
	under  map[string]*diagnosis
	ended  bool
	asides sync.WaitGroup
}

// begin runs f beside its caller, unless the dispatcher ends.
func (s *diagnoses) begin(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.asides.Go(f)
	}
	return !s.ended
}

// end lets no more begin and waits for those that did.
func (s *diagnoses) end() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.asides.Wait()
}

type diagnosis struct {
	done chan struct{}
	err  error
}

func (s *diagnoses) of(name string, find func() error) error {
	s.mu.Lock()
	of, ok := s.under[name]
	if !ok {
		of = &diagnosis{done: make(chan struct{})}
		if s.under == nil {
			s.under = map[string]*diagnosis{}
		}
		s.under[name] = of
	}
	s.mu.Unlock()
	if !ok {
		of.err = find()
		s.mu.Lock()
		delete(s.under, name)
		s.mu.Unlock()
		close(of.done)
	}
	<-of.done
	return of.err
}

// From shortenFrom of their room on old outcomes go, the oldest tenth of them at a look.
const (
	shortenFrom  = 0.85
	shortenParts = 10
)

// ShortenResults lets outcomes go before their time, the oldest first, when they would soon have no room; none that is younger than
// the operator's bound.
func (v *Probes) ShortenResults(ctx context.Context) error {
	if v.minAge == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, storesTimeout)
	defer cancel()
	done, b, err := v.broker.Shorten(ctx, shortenFrom, v.broker.Clock.Now().Add(-v.minAge), shortenParts)
	if err != nil || !done {
		return err
	}
	v.log.Warn("outcomes_shortened", "used_bytes", b.Used, "room_bytes", b.Room, "min_age", v.minAge, "hint", "--results-size is too small for the rate of outcomes: docs/sizing.md")
	return nil
}
