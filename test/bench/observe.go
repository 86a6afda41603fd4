//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/dspex/dspex/test/bench/agent"
)

// What is asked of traces.
const (
	mostTraced  = 1.05 // processor time of a job, of that without them
	tracedShare = "0.1"
	tracedPairs = 15
	// The interval between the 4th and the 12th of 15 values has the median in 96 of 100 cases.
	intervalFrom, intervalTo = 3, 11
)

// measureTracing compares two deployments in pairs of turns: one sends spans of a tenth of its jobs, the other none.
func measureTracing(ctx context.Context, o *options, r *report) error {
	off, _, err := wholeRig(ctx, o, 2, slots, "--engine", "stub", "--python", o.python)
	if err != nil {
		return err
	}
	defer off.stop()
	collector, err := start(o, -1, "collector", o.self, "role", "collector")
	if err != nil {
		return err
	}
	defer collector.stop()
	url, err := collector.await(ctx, collector.lines, "ready ")
	if err != nil {
		return err
	}
	for name, value := range map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": tracedShare} {
		if err := os.Setenv(name, value); err != nil { // for the processes of the second one
			return err
		}
		defer func() { _ = os.Unsetenv(name) }()
	}
	on, _, err := wholeRig(ctx, o, 2, slots, "--engine", "stub", "--python", o.python)
	if err != nil {
		return err
	}
	defer on.stop()
	rigs := map[string]*rig{"without traces": off, "a tenth traced": on}
	for _, g := range rigs {
		if _, err := g.agent.ask(ctx, order{Do: "call", Window: loadWindow, Count: agent.Sessions}); err != nil {
			return err
		}
	}
	got := map[string][]sample{}
	turns := []string{"without traces", "a tenth traced"}
	for range tracedPairs {
		for _, name := range turns {
			g := rigs[name]
			m := newMeter(slices.DeleteFunc(g.all(), func(p *process) bool { return p == g.agent })...)
			a, err := g.agent.ask(ctx, order{Do: "call", Window: loadWindow, Seconds: o.slice.Seconds()})
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			got[name] = append(got[name], m.read(a))
		}
		slices.Reverse(turns)
	}
	ratios := column(got["a tenth traced"], sample.cost)
	for i, plain := range got["without traces"] {
		ratios[i] /= plain.cpu
	}
	r.head(fmt.Sprintf("tracing: %d in flight, stub engine, CPU without the load generator, %d pairs", loadWindow, tracedPairs), "", "1/s", "p50 us", "p99 us", "CPU us", "spread", "idle", "others", "over none asked", "median", "spread", "")
	r.line(append([]string{"without traces"}, cells(r, "tracing", "without traces", got["without traces"])...)...)
	r.line(append(append([]string{"a tenth traced"}, cells(r, "tracing", "a tenth traced", got["a tenth traced"])...), r.judge("tracing", "CPU of a job, a tenth traced over none", "", "<=", mostTraced, ratios)...)...)
	sorted := slices.Sorted(slices.Values(ratios))
	r.line("interval of the median", fmt.Sprintf("%.3f - %.3f", sorted[intervalFrom], sorted[intervalTo]))
	r.tail()
	return nil
}
