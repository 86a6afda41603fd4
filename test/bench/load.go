//go:build linux

package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/dspex/dspex/test/bench/agent"
)

// Bounds that are requested.
const (
	mostOverParts  = 1.2  // cost or latency of the whole, over the sum of its parts
	mostIdle       = 0.20 // of the machine, while it is loaded
	loadWindow     = 64   // in flight
	batchCount     = 50_000
	batchWindow    = 4000 // publishes without acknowledgement
	ackCount       = 30_000
	publishPerFill = 500
)

// bench is everything that runs while the whole is compared with its parts.
type bench struct {
	parts, whole *rig
	pipe         *process
}

func newBench(ctx context.Context, o *options) (b *bench, err error) {
	b = &bench{}
	defer func() {
		if err != nil {
			b.stop()
		}
	}()
	if b.parts, err = partsRig(ctx, o); err != nil {
		return b, err
	}
	if b.whole, _, err = wholeRig(ctx, o, 2, slots, "--engine", "stub", "--python", o.python); err != nil {
		return b, err
	}
	if b.pipe, err = start(o, -1, "pipe", o.self, "role", "pipe", "-python", o.python, "-workers", "2"); err != nil {
		return b, err
	}
	if _, err = b.pipe.await(ctx, b.pipe.lines, "ready"); err != nil {
		return b, err
	}
	// Every session is used once: what is measured is not the first job of a session.
	_, err = b.whole.agent.ask(ctx, order{Do: "call", Window: loadWindow, Count: agent.Sessions})
	return b, err
}

func (b *bench) stop() {
	b.pipe.stop()
	b.whole.stop()
	b.parts.stop()
}

// part is one of those that a job is made of.
type part struct {
	name, do string
	times    float64 // how often a job has it
}

// costParts make up the cost of a job (issue: publish, stream round trip, two KV updates, KV create, ack, pipe call).
var costParts = []part{
	{"publish", "publish", 1}, {"stream round trip", "round", 1}, {"KV update, head", "head", 1}, {"KV update, record", "record", 1},
	{"KV create, result", "create", 1}, {"ack", "ack", 1}, {"pipe call", "call", 1},
}

// latencyParts make up the time of a job that is alone.
var latencyParts = []part{
	{"micro echo", "micro", 1}, {"publish to reply", "round", 1}, {"KV update, head", "head", 1}, {"KV update, record", "record", 1},
	{"KV create, result", "create", 1}, {"pipe call", "call", 1},
}

// single measures one part alone.
func (b *bench) single(ctx context.Context, p part, window int, seconds float64) (sample, error) {
	o := order{Do: p.do, Window: window, Seconds: seconds, Size: 100}
	switch p.do {
	case "call":
		return measure(ctx, b.pipe, o)
	case "ack": // of what was delivered before
		if _, err := b.parts.agent.ask(ctx, order{Do: "fill", Window: publishPerFill, Count: ackCount}); err != nil {
			return sample{}, err
		}
	case "publish":
		defer func() { _, _ = b.parts.agent.ask(ctx, order{Do: "purge"}) }()
	case "chunk", "keep":
		defer func() { _, _ = b.parts.agent.ask(ctx, order{Do: "clear"}) }()
	}
	return measure(ctx, b.parts.agent, o, b.parts.all()...)
}

// table is a list of parts with their samples in each round.
type table struct {
	parts   []part
	samples [][]sample
}

// measure adds a round and returns the sum of f over all parts.
func (t *table) measure(ctx context.Context, b *bench, window int, seconds float64, f func(sample) float64) (float64, error) {
	if t.samples == nil {
		t.samples = make([][]sample, len(t.parts))
	}
	sum := 0.0
	for i, p := range t.parts {
		s, err := b.single(ctx, p, window, seconds)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", p.name, err)
		}
		t.samples[i] = append(t.samples[i], s)
		sum += p.times * f(s)
	}
	return sum, nil
}

func (t *table) print(r *report, name string) {
	r.head(name+": the parts, each alone", "part", "1/s", "p50 us", "p99 us", "CPU us", "spread", "idle", "others")
	for i, p := range t.parts {
		s := t.samples[i]
		r.line(append([]string{p.name}, cells(r, name, p.name, s)...)...)
	}
	r.tail()
}

// cells show samples, and keep the figures.
func cells(r *report, partName, name string, s []sample) []string {
	costs := column(s, sample.cost)
	idles, others := column(s, sample.idleShare), column(s, sample.otherShare)
	r.other = append(r.other, others...)
	return []string{
		number(r.keep(partName, name, "1/s", column(s, sample.Rate))),
		number(r.keep(partName, name+" p50", "us", column(s, sample.p50))),
		number(r.keep(partName, name+" p99", "us", column(s, sample.p99))),
		number(r.keep(partName, name+" CPU", "us", costs)), spread(costs), percent(median(idles)), percent(median(others)),
	}
}

func (s sample) cost() float64       { return s.cpu }
func (s sample) p50() float64        { return s.P50 }
func (s sample) p99() float64        { return s.P99 }
func (s sample) idleShare() float64  { return s.idle }
func (s sample) otherShare() float64 { return s.other }

// measureSingle compares the time of a job that is alone with the times of its parts.
func measureSingle(ctx context.Context, o *options, r *report) error {
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer b.stop()
	t := &table{parts: latencyParts}
	var whole []sample
	var ratios []float64
	for range o.rounds {
		sum, err := t.measure(ctx, b, 1, o.slice.Seconds()/2, sample.p50)
		if err != nil {
			return err
		}
		s, err := measure(ctx, b.whole.agent, order{Do: "call", Window: 1, Seconds: o.slice.Seconds()}, b.whole.all()...)
		if err != nil {
			return err
		}
		whole, ratios = append(whole, s), append(ratios, s.P50/sum)
	}
	t.print(r, "single")
	r.head("single: request and reply through the RPC endpoint, 1 in flight", "", "1/s", "p50 us", "p99 us", "CPU us", "spread", "idle", "others",
		"p50 / sum asked", "median", "spread", "")
	r.line(append(append([]string{"job"}, cells(r, "single", "job", whole)...), r.judge("single", "p50 / sum of the parts' p50", "", "<=", mostOverParts, ratios)...)...)
	r.tail()
	return nil
}

// endpointWindows are the numbers of requests in flight.
var endpointWindows = []int{1, 16, loadWindow, 256}

// measureEndpoint compares the cost of a job through the RPC endpoint with the cost of its parts.
func measureEndpoint(ctx context.Context, o *options, r *report) error {
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer b.stop()
	t := &table{parts: costParts}
	whole := map[int][]sample{}
	var ratios []float64
	for range o.rounds {
		sum, err := t.measure(ctx, b, loadWindow, o.slice.Seconds(), sample.cost)
		if err != nil {
			return err
		}
		for _, n := range endpointWindows {
			s, err := measure(ctx, b.whole.agent, order{Do: "call", Window: n, Seconds: o.slice.Seconds()}, b.whole.all()...)
			if err != nil {
				return err
			}
			whole[n] = append(whole[n], s)
			if n == loadWindow {
				ratios = append(ratios, s.cpu/sum)
			}
		}
	}
	t.print(r, "endpoint")
	r.head("endpoint: calls through the RPC endpoint, distinct sessions, stub engine in two Python workers", "in flight", "1/s", "p50 us", "p99 us", "CPU us",
		"spread", "idle", "others")
	for _, n := range endpointWindows {
		r.line(append([]string{strconv.Itoa(n)}, cells(r, "endpoint", strconv.Itoa(n)+" in flight", whole[n])...)...)
	}
	r.tail()
	verdict(r, "endpoint", whole[loadWindow], ratios)
	return nil
}

// measureBatch is the same for jobs that are published, not requested.
func measureBatch(ctx context.Context, o *options, r *report) error {
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer b.stop()
	t := &table{parts: costParts}
	var whole []sample
	var ratios []float64
	for range o.rounds {
		sum, err := t.measure(ctx, b, loadWindow, o.slice.Seconds(), sample.cost)
		if err != nil {
			return err
		}
		s, err := measure(ctx, b.whole.agent, order{Do: "batch", Window: batchWindow, Count: batchCount}, b.whole.all()...)
		if err != nil {
			return err
		}
		whole, ratios = append(whole, s), append(ratios, s.cpu/sum)
	}
	t.print(r, "batch")
	r.head("batch: 50,000 jobs by asynchronous publish, replies awaited (latency: from the publish to the reply)", "", "1/s", "p50 us", "p99 us", "CPU us",
		"spread", "idle", "others")
	r.line(append([]string{"50,000"}, cells(r, "batch", "50,000 jobs", whole)...)...)
	r.tail()
	verdict(r, "batch", whole, ratios)
	return nil
}

// whoUsed prints the processor time of one operation by process.
func whoUsed(r *report, title string, s []sample) {
	by := map[string][]float64{}
	for _, one := range s {
		for name, us := range one.by {
			by[name] = append(by[name], us)
		}
	}
	var columns, values []string
	for _, name := range slices.Sorted(maps.Keys(by)) {
		columns, values = append(columns, name), append(values, number(r.keep(title, name+" CPU", "us", by[name])))
	}
	r.head(title+": CPU us by process", columns...)
	r.line(values...)
	r.tail()
}

func verdict(r *report, name string, whole []sample, ratios []float64) {
	whoUsed(r, name, whole)
	r.head(name+": asked of the load", "figure", "asked", "median", "spread", "")
	r.line(append([]string{"CPU of a job / sum of the parts' CPU"}, r.judge(name, "CPU of a job / sum of the parts' CPU", "", "<=", mostOverParts, ratios)...)...)
	r.line(append([]string{"idle share"}, r.judge(name, "idle share", "", "<=", mostIdle, column(whole, sample.idleShare))...)...)
	r.tail()
}
