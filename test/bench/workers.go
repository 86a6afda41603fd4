//go:build linux

package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/pyenv"
	"github.com/dspex/dspex/internal/pyproc"
	"github.com/dspex/dspex/internal/wire"
)

//go:embed workers.py
var workersModule string

// What is required of the supervision of workers, in milliseconds unless the name has another unit.
const (
	nursery       = 20   // workers of a pool that starts
	startsShare   = 0.02 // of a cold start, for a fork to READY
	startsMargin  = 500  // beyond one import, until all are ready
	failedP99     = 20
	replacedP99   = 100
	softCancelP99 = 20
	gonePeak      = 100
	hungRuns      = 100
	cancelRuns    = 100 // of each kind
)

// staff is a pool of real DSPy workers under observation.
type staff struct {
	*pyproc.Pool
	events chan pyproc.Event
	began  time.Time
	stop   func() error
}

// hire starts a pool. change may be nil.
func hire(ctx context.Context, env pyenv.Env, workers int, zygote bool, change func(*pyproc.Config)) *staff {
	s := &staff{events: make(chan pyproc.Event, 1<<16), began: time.Now()}
	cfg := pyproc.Config{Command: env.Command(), Env: env.Environ(), Name: "bench", Size: workers, Zygote: zygote,
		OnEvent: func(e pyproc.Event) { s.events <- e },
		Init: func(worker string) []byte {
			b, err := wire.Encode(map[string]any{"engine": "dspy", "slots": slots, "worker": worker, "imports": []string{"workers"}})
			if err != nil {
				panic(err) // text and numbers always encode
			}
			return b
		}}
	if change != nil {
		change(&cfg)
	}
	s.Pool = pyproc.New(cfg)
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	s.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	return s
}

// await returns the n next events that fit.
func (s *staff) await(ctx context.Context, n int, fits func(pyproc.Event) bool) ([]pyproc.Event, error) {
	timeout := time.NewTimer(startTimeout)
	defer timeout.Stop()
	var found []pyproc.Event
	for len(found) < n {
		select {
		case e := <-s.events:
			if fits(e) {
				found = append(found, e)
			} else if e.Err != nil && e.To == pyproc.Quarantined {
				return nil, e.Err
			}
		case <-timeout.C:
			return nil, fmt.Errorf("the workers did not do what was awaited within %v", startTimeout)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return found, nil
}

func isReady(e pyproc.Event) bool { return e.From == pyproc.Warming && e.To == pyproc.Idle }

// begin calls a command and returns once it runs; the end of the call comes through the channel.
func begin(ctx context.Context, s *pyproc.Slot, command string) (<-chan error, error) {
	stream, err := wire.Encode(map[string]any{"stream": true})
	if err != nil {
		return nil, err
	}
	body := frame.CallBody{Command: command, Job: "q1", Attempt: 1, Args: wire.AppendMap(nil, 0), Options: stream}.AppendBody(nil)
	running, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		f, err := s.Call(ctx, body, func([]byte) { running <- struct{}{} })
		if err == nil && f.Type == frame.Error {
			b, _ := frame.ParseError(f.Body)
			err = fmt.Errorf("%s: %s", b.Code, b.Message)
		}
		ended <- err
	}()
	select {
	case <-running:
		return ended, nil
	case err := <-ended:
		return nil, fmt.Errorf("%s ended before it ran: %w", command, err)
	}
}

func (s *staff) pid(worker uint64) int {
	for _, w := range s.Stats().Workers {
		if w.ID == worker {
			return w.PID
		}
	}
	return 0
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func p99(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[min(len(s)-1, len(s)*99/100)]
}

// measureWorkers measures starts and ends of workers with real DSPy in them, without broker and jobs.
func measureWorkers(ctx context.Context, o *options, r *report) error {
	modules := filepath.Join(o.dir, "modules")
	if err := os.Mkdir(modules, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(modules, "workers.py"), []byte(workersModule), 0o600); err != nil {
		return err
	}
	env, err := pyenv.Ensure(ctx, pyenv.Config{Progress: os.Stderr, Paths: []string{modules}})
	if err != nil {
		return err
	}
	r.head("workers: life and death of workers with real DSPy, forked from a zygote", "", "unit", "asked", "median", "spread", "")
	defer r.tail()
	for _, measure := range []func(context.Context, *options, *report, pyenv.Env) error{measureStarts, measureCancels, measureHangs, measureOrphans} {
		if err := measure(ctx, o, r, env); err != nil {
			return err
		}
	}
	return nil
}

func (r *report) worker(name, unit, relation string, bound float64, values []float64) {
	r.line(append([]string{name, unit}, r.judge("workers", name, unit, relation, bound, values)...)...)
}

// measureStarts: one worker by itself, then pools of forked ones, in which every worker is killed once. A second death within a
// minute would be answered with a delay.
func measureStarts(ctx context.Context, o *options, r *report, env pyenv.Env) error {
	var cold, all, forks, failed, replaced []float64
	for range max(o.rounds, 3) {
		s := hire(ctx, env, 1, false, nil)
		found, err := s.await(ctx, 1, isReady)
		if err == nil {
			err = s.stop()
		}
		if err != nil {
			return err
		}
		cold = append(cold, milliseconds(found[0].At.Sub(s.began)))
	}
	for len(failed) < 200 {
		s := hire(ctx, env, nursery, true, nil)
		err := func() error {
			defer func() { _ = s.stop() }()
			found, err := s.await(ctx, nursery, isReady)
			if err != nil {
				return err
			}
			all = append(all, milliseconds(found[nursery-1].At.Sub(s.began))-median(cold))
			return killEach(ctx, s, &forks, &failed, &replaced)
		}()
		if err != nil {
			return err
		}
	}
	r.line("one worker by itself, start to READY", "ms", "", number(r.keep("workers", "cold start", "ms", cold)), spread(cold))
	r.worker("20 workers ready, beyond one cold start", "ms", "<=", startsMargin, all)
	r.worker("fork to READY, share of a cold start", "", "<=", startsShare, []float64{median(forks) / median(cold)})
	r.line("  fork to READY", "ms", "", number(r.keep("workers", "fork to READY", "ms", forks)), spread(forks))
	r.worker("killed: its call failed, p99", "ms", "<=", failedP99, []float64{p99(failed)})
	r.worker("killed: replaced, p99", "ms", "<=", replacedP99, []float64{p99(replaced)})
	return nil
}

// killEach kills one worker after the other under a call.
func killEach(ctx context.Context, s *staff, forks, failed, replaced *[]float64) error {
	killed := map[string]bool{}
	for len(killed) < nursery {
		slot, err := s.Checkout(ctx, 0)
		if err != nil {
			return err
		}
		if killed[slot.WorkerName()] { // keep it, so that the least loaded one is another
			defer slot.Release()
			continue
		}
		killed[slot.WorkerName()] = true
		ended, err := begin(ctx, slot, "in_sleep")
		if err != nil {
			return err
		}
		at := time.Now()
		if err := syscall.Kill(s.pid(slot.WorkerID()), syscall.SIGKILL); err != nil {
			return err
		}
		if err := <-ended; err == nil {
			return errors.New("a call outlived its worker")
		}
		*failed = append(*failed, milliseconds(time.Since(at)))
		slot.Release()
		spawned := time.Time{}
		found, err := s.await(ctx, 1, func(e pyproc.Event) bool {
			if e.To == pyproc.Spawning && e.At.After(at) {
				spawned = e.At
			}
			return isReady(e) && e.At.After(at)
		})
		if err != nil {
			return err
		}
		*replaced = append(*replaced, milliseconds(found[0].At.Sub(at)))
		*forks = append(*forks, milliseconds(found[0].At.Sub(spawned)))
	}
	return nil
}

// measureCancels: from the caller's end of patience to the end of the call in Python, in the same worker.
func measureCancels(ctx context.Context, _ *options, r *report, env pyenv.Env) error {
	s := hire(ctx, env, 1, true, nil)
	defer func() { _ = s.stop() }()
	if _, err := s.await(ctx, 1, isReady); err != nil {
		return err
	}
	var back []float64
	for _, command := range []string{"in_sleep", "in_socket", "in_lock", "in_thread"} {
		var took []float64
		for range cancelRuns {
			slot, err := s.Checkout(ctx, 0)
			if err != nil {
				return err
			}
			calling, cancel := context.WithCancel(ctx)
			ended, err := begin(calling, slot, command)
			if err != nil {
				cancel()
				return err
			}
			at := time.Now()
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				return fmt.Errorf("%s: a cancelled call ended with %w", command, err)
			}
			back = append(back, milliseconds(time.Since(at)))
			slot.Release()
			found, err := s.await(ctx, 1, func(e pyproc.Event) bool { return e.From == pyproc.Cancelling })
			if err != nil {
				return err
			}
			if found[0].To != pyproc.Idle && found[0].To != pyproc.Busy {
				return fmt.Errorf("%s: the worker did not survive: %s, %w", command, found[0].To, found[0].Err)
			}
			took = append(took, milliseconds(found[0].At.Sub(at)))
		}
		r.worker("cancelled "+command+": ended in Python, worker lives, p99", "ms", "<=", softCancelP99, []float64{p99(took)})
	}
	r.line("  cancelled: the caller has its answer, p99", "ms", "", number(r.keep("workers", "cancelled, caller answered, p99", "ms", []float64{p99(back)})))
	return nil
}

// measureHangs counts the hung workers whose error reports where they stood.
func measureHangs(ctx context.Context, _ *options, r *report, env pyenv.Env) error {
	const many = 25
	s := hire(ctx, env, many, true, func(c *pyproc.Config) { c.PingEvery, c.PingLost = 500*time.Millisecond, 3*time.Second })
	defer func() { _ = s.stop() }()
	places := map[string]string{"hold_gil": " in hold_gil", "block_loop": " in block_loop", "swallow": " in swallow"}
	commands := []string{"hold_gil", "block_loop", "swallow"}
	told, runs := 0, 0
	for runs < hungRuns {
		if _, err := s.await(ctx, many, isReady); err != nil {
			return err
		}
		n := min(many, hungRuns-runs)
		awaited := map[uint64]string{}
		for i := range n {
			slot, err := s.Checkout(ctx, 0)
			if err != nil {
				return err
			}
			command := commands[(runs+i)%len(commands)]
			calling, cancel := context.WithCancel(ctx)
			if _, err := begin(calling, slot, command); err != nil {
				cancel()
				return err
			}
			if command == "swallow" {
				cancel()
			}
			defer cancel()
			awaited[slot.WorkerID()] = places[command]
			slot.Release()
		}
		found, err := s.await(ctx, n, func(e pyproc.Event) bool { return e.To == pyproc.Exited })
		if err != nil {
			return err
		}
		for _, e := range found {
			if stackHas(e.Err, awaited[e.ID]) {
				told++
			}
		}
		runs += n
		_ = s.stop()
		s = hire(ctx, env, many, true, func(c *pyproc.Config) { c.PingEvery, c.PingLost = 500*time.Millisecond, 3*time.Second })
	}
	r.worker(fmt.Sprintf("hung: errors with the place, of %d", runs), "", ">=", hungRuns, []float64{float64(told)})
	return nil
}
