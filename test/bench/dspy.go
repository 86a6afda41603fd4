//go:build linux

package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/pyenv"
	"github.com/dspex/dspex/test/bench/procs"
)

//go:embed plain.py
var plainScript string

const (
	predicts      = 1000 // in flight
	predictCount  = 5000 // of one measurement: five times the model's latency
	leastOfPlain  = 1.05 // of the plain program's rate
	mostMemory    = 500  // MB of all workers
	modelLatency  = "lat=1000"
	predictBody   = `{"command": "predict", "args": {"question": "What is the capital of France?"}, "options": {"timeout": 60000}}`
	memoryTick    = 300 * time.Millisecond
	dspyProcesses = 2
)

// measureDSPy compares real DSPy behind the queue with the same DSPy in a plain program, on the same echo model.
func measureDSPy(ctx context.Context, o *options, r *report) error {
	env, err := pyenv.Ensure(ctx, pyenv.Config{Progress: os.Stderr})
	if err != nil {
		return err
	}
	model, err := start(o, -1, "echo", filepath.Join(o.bin, "dspex"), "echo-lm", "--script", modelLatency)
	if err != nil {
		return err
	}
	defer model.stop()
	base, err := model.await(ctx, model.lines, "ready ")
	if err != nil {
		return err
	}
	profiles := filepath.Join(o.dir, "profiles.json")
	b, err := json.Marshal(map[string]any{"default": "echo", "profiles": map[string]any{
		"echo": map[string]any{"provider": "openai_compatible", "model": "echo", "api_base": base}}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(profiles, b, 0o600); err != nil {
		return err
	}
	g, host, err := wholeRig(ctx, o, dspyProcesses, 512, "--engine", "dspy", "--lm", profiles)
	if err != nil {
		return err
	}
	defer g.stop()
	var plains, wholes []sample
	var ratios, rss, pss []float64
	for round := range o.rounds {
		p, err := measurePlain(ctx, o, env, base, model)
		if err != nil {
			return err
		}
		stop := watchMemory(procs.Family(host.cmd.Process.Pid)[1:])
		w, err := measure(ctx, g.agent, order{Do: "call", Window: predicts, Count: predictCount, Body: predictBody, Fresh: fmt.Sprintf("r%d_", round)},
			append(g.all(), model)...)
		peak := stop()
		if err != nil {
			return err
		}
		plains, wholes = append(plains, p), append(wholes, w)
		ratios = append(ratios, w.Rate()/p.Rate())
		rss, pss = append(rss, peak[0]), append(pss, peak[1])
	}
	r.head("dspy: 1,000 predicts in flight, model latency 1 s, two Python processes", "", "1/s", "p50 us", "p99 us", "CPU us", "spread", "idle", "others")
	r.line(append([]string{"plain asyncio program"}, cells(r, "dspy", "plain", plains)...)...)
	r.line(append([]string{"through dspex"}, cells(r, "dspy", "dspex", wholes)...)...)
	r.tail()
	whoUsed(r, "dspy: the plain program", plains)
	whoUsed(r, "dspy: through dspex", wholes)
	r.head("dspy: asked", "figure", "asked", "median", "spread", "")
	r.line(append([]string{"rate / the plain program's"}, r.judge("dspy", "rate / the plain program's", "", ">=", leastOfPlain, ratios)...)...)
	r.line(append([]string{"resident memory of all workers, MB"}, r.judge("dspy", "resident memory of all workers", "MB", "<=", mostMemory, rss)...)...)
	r.line("proportional share of it, MB", "", number(r.keep("dspy", "proportional set size of all workers", "MB", pss)), spread(pss))
	r.tail()
	return nil
}

// measurePlain runs the plain program in as many processes as dspex has workers.
func measurePlain(ctx context.Context, o *options, env pyenv.Env, base string, model *process) (sample, error) {
	code := "import sys; sys.path[:0] = sys.argv[1:2]; del sys.argv[1:2]\n" + plainScript
	var all []*process
	defer func() {
		for _, p := range all {
			p.stop()
		}
	}()
	for n := range dspyProcesses {
		p, err := start(o, -1, strconv.Itoa(n)+"-plain", env.Python, "-I", "-S", "-X", "utf8", "-c", code, env.SitePackages,
			base, strconv.Itoa(predicts/dspyProcesses), strconv.Itoa(predictCount/dspyProcesses))
		if err != nil {
			return sample{}, err
		}
		all = append(all, p)
	}
	for _, p := range all {
		if _, err := p.await(ctx, p.lines, "ready"); err != nil {
			return sample{}, err
		}
	}
	m := newMeter(append(all, model)...)
	for _, p := range all {
		if _, err := fmt.Fprintln(p.stdin, "go"); err != nil {
			return sample{}, err
		}
	}
	a := answer{Count: predictCount}
	for _, p := range all {
		text, err := p.await(ctx, p.lines, "took ")
		if err != nil {
			return sample{}, err
		}
		took, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return sample{}, err
		}
		a.Seconds = max(a.Seconds, took)
	}
	return m.read(a), nil
}

// watchMemory looks at the processes until its result is called, which returns the peaks in MB: resident, proportional.
func watchMemory(pids []int) func() [2]float64 {
	stop, peak := make(chan struct{}), make(chan [2]float64)
	go func() {
		t := time.NewTicker(memoryTick)
		defer t.Stop()
		var most [2]float64
		for {
			rss, pss := procs.Memory(pids)
			most[0], most[1] = max(most[0], rss), max(most[1], pss)
			select {
			case <-stop:
				peak <- most
				return
			case <-t.C:
			}
		}
	}()
	return func() [2]float64 { close(stop); return <-peak }
}

// tookPattern finds the times of its start that `dspex dev --verbose` logs: name=duration behind msg=started.
var tookPattern = regexp.MustCompile(`took\.(\w+)=(\S+)`)

// measureStart times `dspex dev` with real DSPy, with its Python environment in place.
func measureStart(ctx context.Context, o *options, r *report) error {
	took := map[string][]float64{}
	var names []string
	note := func(name string, d time.Duration) {
		if took[name] == nil {
			names = append(names, name)
		}
		took[name] = append(took[name], float64(d.Microseconds())/1000)
	}
	for round := range 1 + o.rounds {
		skip := round == 0 // it may have to make the environment
		if err := startOnce(ctx, o, func(name string, d time.Duration) {
			if !skip {
				note(name, d)
			}
		}); err != nil {
			return err
		}
	}
	r.head("start: dspex dev with real DSPy and the echo model, environment in place", "", "ms", "spread")
	for _, name := range names {
		r.line(name, number(r.keep("start", name, "ms", took[name])), spread(took[name]))
	}
	r.tail()
	return nil
}

func startOnce(ctx context.Context, o *options, note func(string, time.Duration)) error {
	began := time.Now()
	p, err := start(o, -1, "dev", filepath.Join(o.bin, "dspex"), "dev", "--listen", "127.0.0.1:0", "--verbose")
	if err != nil {
		return err
	}
	defer p.stop()
	url, err := p.await(ctx, p.lines, "ready ")
	if err != nil {
		return err
	}
	ready := time.Since(began)
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	for _, name := range []string{"first predict", "second predict, same session"} {
		at := time.Now()
		m, err := nc.Request("dspex.rpc.session.user_123", []byte(predictBody), orderTimeout)
		if err == nil {
			err = failure(m)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if name == "first predict" {
			note("start to ready", ready)
			if err := noteStages(ctx, p, note); err != nil {
				return err
			}
			note("start to the first predict's answer", time.Since(began))
		}
		note(name, time.Since(at))
	}
	return nil
}

// noteStages reads what the process logs of its own start.
func noteStages(ctx context.Context, p *process, note func(string, time.Duration)) error {
	for {
		line, err := p.await(ctx, p.errs, "time=")
		if err != nil {
			return err
		}
		found := tookPattern.FindAllStringSubmatch(line, -1)
		for _, f := range found {
			d, err := time.ParseDuration(f[2])
			if err != nil {
				return err
			}
			note("  "+f[1], d)
		}
		if found != nil {
			return nil
		}
	}
}
