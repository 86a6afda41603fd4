//go:build linux

package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/pyenv"
	"github.com/dspex/dspex/internal/pyproc"
	"github.com/dspex/dspex/internal/wire"
	"github.com/dspex/dspex/test/bench/agent"
	"github.com/dspex/dspex/test/bench/procs"
)

//go:embed plain_lm.py
var plainLM string

//go:embed agent.py
var agentModule string

const (
	callWindow    = 32   // in flight
	callSeconds   = 1.2  // about, of one measurement
	leastOfEngine = 1.74 // predicts a second of processor time, of those of a plain program with an engine object
)

// calls are the programs whose cost is compared: how the worker gets them, and the share of the plain script's processor time
// that is requested.
var calls = []struct {
	name, title, command string
	options              map[string]any
	asked                float64
	count                int // of the first measurement, which finds how many fit
}{
	{"predict", "predict", "predict", nil, 0.19, 100},
	{"turns", "ten turns", "predict", map[string]any{"signature": "question, history: history -> answer"}, 0.22, 64},
	{"thought", "chain of thought", "predict", map[string]any{"signature": "question -> answer", "module": "chain_of_thought"}, 0.19, 100},
	{"typed", "five typed outputs", "predict",
		map[string]any{"signature": "question -> answer: str, score: float, count: int, sure: bool, tags: list[str]"}, 0.15, 64},
	{"react", "ReAct, three calls", "execute_program", nil, 0.09, 32},
}

// caller is a worker with real DSPy that gets calls without broker and jobs.
type caller struct {
	*staff
	told bool
	base string
}

// playCalls is a pool of one worker, bound to a processor.
func playCalls(ctx context.Context, runtime, modules, base string) error {
	env, err := pyenv.Ensure(ctx, pyenv.Config{Progress: os.Stderr, Paths: []string{modules}})
	if err != nil {
		return err
	}
	if runtime != "" {
		env.RuntimeDir, env.RuntimeHash = runtime, ""
	}
	c := &caller{base: base}
	c.staff = hire(ctx, env, 1, false, func(cfg *pyproc.Config) {
		cfg.Init = func(worker string) []byte {
			b, err := wire.Encode(map[string]any{"engine": "dspy", "slots": slots, "worker": worker, "imports": []string{"agent"}})
			if err != nil {
				panic(err) // text and numbers always encode
			}
			return b
		}
	})
	defer func() { _ = c.stop() }()
	if err := c.Ready(ctx); err != nil {
		return err
	}
	var one unix.CPUSet
	one.Set(0)
	if err := unix.SchedSetaffinity(c.worker(), &one); err != nil {
		return fmt.Errorf("bind the worker to a processor: %w", err)
	}
	fmt.Println("ready")
	return agent.Obey(func(o order) (answer, error) { return c.do(ctx, o) })
}

func (c *caller) worker() int { return c.Stats().Workers[0].PID }

func (c *caller) do(ctx context.Context, o order) (answer, error) {
	before := clockOf(c.worker())
	a, err := agent.Window(o, func(_, n int, done func(error)) { go func() { done(c.call(ctx, o.Do, n)) }() })
	if a.Count > 0 {
		a.CPU = float64((clockOf(c.worker()) - before).Nanoseconds()) / 1000 / float64(a.Count)
	}
	a.RSS, _ = procs.Memory([]int{c.worker()})
	return a, err
}

// call runs one program once.
func (c *caller) call(ctx context.Context, name string, n int) error {
	s, err := c.Checkout(ctx, 0)
	if err != nil {
		return err
	}
	defer s.Release()
	if !c.told {
		profile, err := wire.Encode(map[string]any{"provider": "openai_compatible", "model": "echo", "api_base": c.base})
		if err != nil {
			return err
		}
		if err := s.Send(frame.LM, frame.LMBody{Key: "echo", Profile: profile}.AppendBody(nil)); err != nil {
			return err
		}
		c.told = true
	}
	body, err := callOf(name, n)
	if err != nil {
		return err
	}
	f, err := s.Call(ctx, body, nil)
	if err == nil && f.Type != frame.Result {
		b, _ := frame.ParseError(f.Body)
		err = fmt.Errorf("%s: %s: %s", name, b.Code, b.Message)
	}
	return err
}

func callOf(name string, n int) ([]byte, error) {
	args := map[string]any{"question": fmt.Sprintf("Question %d?", n)}
	body := frame.CallBody{Job: "q" + strconv.Itoa(n+1), Attempt: 1, BudgetMS: 60_000, LM: "echo"}
	for _, c := range calls {
		if c.name != name {
			continue
		}
		body.Command = c.command
		switch name {
		case "turns":
			var turns []any
			for i := range 10 {
				turns = append(turns, map[string]any{"question": fmt.Sprintf("Question %d, which was asked before?", i), "answer": fmt.Sprintf("Answer %d, which was given before.", i)})
			}
			args["history"] = turns
		case "react":
			args = map[string]any{"program_id": "agent", "inputs": args}
		}
		var err error
		if body.Args, err = wire.Encode(args); err != nil {
			return nil, err
		}
		if c.options != nil {
			if body.Options, err = wire.Encode(c.options); err != nil {
				return nil, err
			}
		}
	}
	return body.AppendBody(nil), nil
}

// clockOf is the processor time of a process, to the nanosecond.
func clockOf(pid int) time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(int32(^pid<<3|2), &t) != nil { // the kernel's number for another process's CPU clock
		return 0
	}
	return time.Duration(t.Nano())
}

// contestant is one of the ways to run the programs.
type contestant struct {
	name string
	run  func(ctx context.Context, program string, count int) (answer, error)
	seen map[string][]answer
}

// measureCalls compares what a call costs in a worker with what it costs in a script, bound to the same processor, in turns.
func measureCalls(ctx context.Context, o *options, r *report) error {
	modules := filepath.Join(o.dir, "modules")
	if err := os.Mkdir(modules, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(modules, "agent.py"), []byte(agentModule), 0o600); err != nil {
		return err
	}
	env, err := pyenv.Ensure(ctx, pyenv.Config{Progress: os.Stderr})
	if err != nil {
		return err
	}
	var all []*process
	defer func() {
		for _, p := range all {
			p.stop()
		}
	}()
	begin := func(cpu int, name, ready string, argv ...string) (*process, string, error) {
		p, err := start(o, cpu, name, argv...)
		if err != nil {
			return nil, "", err
		}
		all = append(all, p)
		rest, err := p.await(ctx, p.lines, ready)
		return p, rest, err
	}
	_, base, err := begin(1, "echo", "ready ", filepath.Join(o.bin, "dspex"), "echo-lm")
	if err != nil {
		return err
	}
	script, _, err := begin(0, "script", "ready", env.Python, "-I", "-S", "-X", "utf8", "-c",
		"import sys; sys.path[:0] = sys.argv[1:2]; del sys.argv[1:2]\n"+plainLM, env.SitePackages, base)
	if err != nil {
		return err
	}
	contestants := []*contestant{plainContestant(script, "lm", "script"), plainContestant(script, "engine", "script, engine object")}
	runtimes := []string{""}
	if o.runtime != "" {
		runtimes = append(runtimes, o.runtime)
	}
	for _, runtime := range runtimes {
		name := "worker"
		if runtime != "" {
			name = "other worker"
		}
		p, _, err := begin(1, strings.ReplaceAll(name, " ", "_"), "ready", o.self, "role", "calls", "-runtime", runtime, "-modules", modules, "-server", base)
		if err != nil {
			return err
		}
		contestants = append(contestants, &contestant{name: name, run: func(ctx context.Context, program string, count int) (answer, error) {
			return p.ask(ctx, order{Do: program, Window: callWindow, Count: count})
		}})
	}
	return compare(ctx, o, r, contestants)
}

func plainContestant(script *process, model, name string) *contestant {
	return &contestant{name: name, run: func(ctx context.Context, program string, count int) (answer, error) {
		if _, err := fmt.Fprintln(script.stdin, model, program, callWindow, count); err != nil {
			return answer{}, err
		}
		text, err := script.await(ctx, script.lines, "took ")
		if err != nil {
			return answer{}, err
		}
		a := answer{Count: count}
		if _, err := fmt.Sscan(text, &a.Seconds, &a.CPU); err != nil {
			return answer{}, fmt.Errorf("the script said %q: %w", text, err)
		}
		a.CPU *= 1e6 / float64(count)
		return a, nil
	}}
}

// compare runs each program in turns and prints the figures.
func compare(ctx context.Context, o *options, r *report, contestants []*contestant) error {
	counts := map[string]int{} // one for each contestant and program: they differ tenfold
	for round := range 1 + o.rounds {
		for _, program := range calls {
			for _, c := range contestants {
				if c.seen == nil {
					c.seen = map[string][]answer{}
				}
				key := c.name + program.name
				a, err := c.run(ctx, program.name, max(counts[key], program.count))
				if err != nil {
					return err
				}
				counts[key] = max(program.count, int(callSeconds*a.Rate()))
				if round > 0 { // the first warms up
					c.seen[program.name] = append(c.seen[program.name], a)
				}
			}
		}
	}
	reportCalls(r, contestants)
	return nil
}

func reportCalls(r *report, contestants []*contestant) {
	columns := []string{"CPU us a call"}
	for _, c := range contestants {
		columns = append(columns, c.name)
	}
	cpu := func(a answer) float64 { return a.CPU }
	r.head("calls: programs in a worker and in a script, 32 in flight, bound to the same processor", columns...)
	for _, program := range calls {
		cells := []string{program.title}
		for _, c := range contestants {
			cells = append(cells, number(r.keep("calls", program.title+", "+c.name, "us", each(c.seen[program.name], cpu))))
		}
		r.line(cells...)
	}
	r.tail()
	r.head("calls: asked", "figure", "asked", "median", "spread", "")
	for _, c := range contestants {
		if !strings.HasSuffix(c.name, "worker") {
			continue
		}
		for _, program := range calls {
			name := program.title + ", CPU of the " + c.name + " / the script"
			r.line(append([]string{name}, r.judge("calls", name, "", "<=", program.asked, ratios(c.seen[program.name], contestants[0].seen[program.name], cpu))...)...)
		}
		name := "predicts a second of CPU, " + c.name + " / script with engine object"
		r.line(append([]string{name}, r.judge("calls", name, "", ">=", leastOfEngine, ratios(contestants[1].seen["predict"], c.seen["predict"], cpu))...)...)
		r.line("resident memory of the "+c.name+", MB", "", number(r.keep("calls", "memory of the "+c.name, "MB", each(c.seen["react"], func(a answer) float64 { return a.RSS }))))
	}
	r.tail()
}

func each(all []answer, f func(answer) float64) []float64 {
	var out []float64
	for _, a := range all {
		out = append(out, f(a))
	}
	return out
}

func ratios(of, to []answer, f func(answer) float64) []float64 {
	var out []float64
	for i := range of {
		out = append(out, f(of[i])/f(to[i]))
	}
	return out
}
