//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/insight"
	"github.com/dspex/dspex/test/bench/agent"
	"github.com/dspex/dspex/test/bench/web"
)

// What is required of traces.
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
	for _, who := range []string{"broker", "dispatcher", "host", "python"} {
		of := func(s sample) float64 { return s.by[who] }
		r.line("CPU us of a job, "+who, number(median(column(got["without traces"], of))), number(median(column(got["a tenth traced"], of))))
	}
	sorted := slices.Sorted(slices.Values(ratios))
	r.line("interval of the median", fmt.Sprintf("%.3f - %.3f", sorted[intervalFrom], sorted[intervalTo]))
	r.tail()
	return nil
}

// What is required of the dashboard, with manySessions and boardRate jobs a second.
const (
	boardRate    = 1000
	boardBusy    = 500 // sessions that the jobs are of
	boardSeconds = 20
	boardViewers = 10
	mostPage     = 100.0 // KB
	mostViewer   = 0.05  // of one processor, for each
	looks        = 51
)

// boardPages are those that it has, with what moves on them.
var boardPages = []struct{ path, part string }{{"", "overview"}, {"/jobs", "jobs"}, {"/sessions", ""}, {"/hosts", "hosts"}, {"/breakers", "breakers"}, {"/letters", ""}, {"/models", ""}, {"/batches", ""}}

// measureDashboard opens the pages of a pool with many sessions while it runs jobs, and has them followed.
func measureDashboard(ctx context.Context, o *options, r *report) error {
	s, err := newScaleRig(ctx, o, slots)
	if err != nil {
		return err
	}
	defer s.close()
	served, err := s.add(ctx, "gateway", s.gateway()...)
	if err != nil {
		return err
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	answered := make(chan int, 1)
	began := time.Now()
	go func() {
		n, _ := web.Pace(ctx, s.nc, boardRate, func(n int) string { return "scale_" + strconv.Itoa(n%boardBusy) })
		answered <- n
	}()
	none, err := followed(ctx, served, 0)
	if err != nil {
		return err
	}
	one, err := followed(ctx, served, 1)
	if err != nil {
		return err
	}
	many, err := followed(ctx, served, boardViewers)
	if err != nil {
		return err
	}
	largest := 0.0
	for _, p := range boardPages {
		kb, err := pageSize(ctx, served.at+"/dashboard"+p.path)
		if err != nil {
			return err
		}
		r.keep("dashboard", "page /dashboard"+p.path, "KB", []float64{kb})
		largest = max(largest, kb)
	}
	var took []float64
	client := dspex.New(s.nc)
	for range looks {
		at := time.Now()
		if one := insight.Take(ctx, insight.Pool(client)); one.Sick != nil || one.Err != nil {
			return errors.Join(one.Sick, one.Err)
		}
		took = append(took, milliseconds(time.Since(at)))
	}
	seconds := time.Since(began).Seconds()
	end()
	r.head(fmt.Sprintf("dashboard: %d sessions, %d jobs a second sent", manySessions, boardRate), "figure", "asked", "median", "spread", "")
	r.line("jobs answered a second", "", number(r.keep("dashboard", "jobs", "1/s", []float64{float64(<-answered) / seconds})))
	r.line("the gateway without viewers, of one processor", "", fmt.Sprintf("%.3f", r.keep("dashboard", "CPU without viewers", "", []float64{none})))
	r.line(append([]string{"with one viewer"}, r.judge("dashboard", "CPU of the gateway with one viewer", "", "<=", mostViewer, []float64{one})...)...)
	r.line(append([]string{fmt.Sprintf("with %d viewers, for each", boardViewers)}, r.judge("dashboard", "CPU of the gateway for each of many viewers", "", "<=", mostViewer, []float64{many / boardViewers})...)...)
	r.line(append([]string{"largest page, KB"}, r.judge("dashboard", "largest page", "KB", "<=", mostPage, []float64{largest})...)...)
	r.line("what `dspex top` reads for a picture, ms", "", number(r.keep("dashboard", "reads of top", "ms", took)), spread(took))
	r.tail()
	return nil
}

// followed is the share of a processor that the gateway uses while that many viewers follow its pages.
func followed(ctx context.Context, served *process, viewers int) (float64, error) {
	ctx, stop := context.WithTimeout(ctx, boardSeconds*time.Second)
	defer stop()
	errs := make(chan error, viewers)
	m := newMeter(served)
	for n := range viewers {
		part := boardPages[n%len(boardPages)].part
		go func() { errs <- web.View(ctx, served.at+"/dashboard/live?part="+part) }()
	}
	var all error
	for range viewers {
		all = errors.Join(all, <-errs)
	}
	if viewers == 0 {
		<-ctx.Done()
	}
	return m.read(answer{Count: 1}).cpu / 1e6 / boardSeconds, all
}

func pageSize(ctx context.Context, url string) (float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: status %d", url, response.StatusCode)
	}
	return float64(len(text)) / 1000, err
}
