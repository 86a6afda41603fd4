//go:build linux

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/dspex/dspex/test/bench/agent"
)

// What is required of the way through HTTP, as a share of the same calls by NATS: as of jobs that have an id, since the gateway gives each one.
const (
	mostHTTPTime = 1.25 // of the median, with one call in flight
	mostHTTPCost = 1.3  // of the processor time of all but the load generator, with loadWindow in flight
)

// way is how calls come to the pool.
type way struct {
	name  string
	from  *process
	cost  []*process // all but the load generator
	named bool       // each call has an id
}

// served starts a process that serves HTTP, and what sends calls to it.
func (g *rig) served(ctx context.Context, name string, argv ...string) (server, from *process, err error) {
	if server, err = start(g.o, -1, g.name+"-"+name, argv...); err != nil {
		return nil, nil, err
	}
	g.others = append(g.others, server)
	url, err := server.await(ctx, server.lines, "ready ")
	if err != nil {
		return nil, nil, err
	}
	if from, err = start(g.o, -1, g.name+"-to-"+name, g.o.self, "role", "web", "-server", url); err != nil {
		return nil, nil, err
	}
	g.others = append(g.others, from)
	_, err = from.await(ctx, from.lines, "ready")
	return server, from, err
}

func (g *rig) gateway(more ...string) []string {
	return append([]string{filepath.Join(g.o.bin, "dspex"), "gateway", "--server", g.url, "--listen", "127.0.0.1:0"}, more...)
}

// measureGateway compares calls through the gateway with the same calls by NATS, in turns. Beside it stands the least that a server in Go with
// a client of NATS behind it costs.
func measureGateway(ctx context.Context, o *options, r *report) error {
	g, _, err := wholeRig(ctx, o, 2, slots, "--engine", "stub", "--python", o.python)
	if err != nil {
		return err
	}
	defer g.stop()
	native := slices.DeleteFunc(g.all(), func(p *process) bool { return p == g.agent })
	served, web, err := g.served(ctx, "gateway", g.gateway()...)
	if err != nil {
		return err
	}
	bare, toBare, err := g.served(ctx, "bare", o.self, "role", "bare", "-server", g.url)
	if err != nil {
		return err
	}
	if _, err := g.agent.ask(ctx, order{Do: "call", Window: loadWindow, Count: agent.Sessions}); err != nil {
		return err
	}
	ways := []way{{"NATS without ids", g.agent, native, false}, {"NATS", g.agent, native, true},
		{"net/http alone", toBare, append(slices.Clone(native), bare), false}, {"HTTP", web, append(slices.Clone(native), served), false}}
	windows := []int{1, loadWindow}
	got := map[string][]sample{}
	for _, in := range windows {
		for range o.rounds {
			for _, w := range ways {
				m := newMeter(w.cost...)
				a, err := w.from.ask(ctx, order{Do: "call", Window: in, Seconds: o.slice.Seconds(), Named: w.named})
				if err != nil {
					return fmt.Errorf("%s, %d in flight: %w", w.name, in, err)
				}
				key := fmt.Sprintf("%s, %d in flight", w.name, in)
				got[key] = append(got[key], m.read(a))
			}
		}
	}
	reportGateway(r, ways, windows, got)
	return nil
}

func reportGateway(r *report, ways []way, windows []int, got map[string][]sample) {
	r.head("gateway: calls over HTTP and by NATS, stub engine, CPU without the load generator", "", "1/s", "p50 us", "p99 us", "CPU us", "spread", "idle", "others", "over NATS asked", "median", "spread", "")
	for _, in := range windows {
		what, of, most := "p50", sample.p50, mostHTTPTime
		if in > 1 {
			what, of, most = "CPU", sample.cost, mostHTTPCost
		}
		natural := column(got[fmt.Sprintf("NATS, %d in flight", in)], of)
		for _, w := range ways {
			name := fmt.Sprintf("%s, %d in flight", w.name, in)
			ratios := column(got[name], of)
			for i := range ratios {
				ratios[i] /= natural[i]
			}
			figure, all := fmt.Sprintf("%s over NATS, %d in flight", what, in), cells(r, "gateway", name, got[name])
			switch w.name {
			case "HTTP":
				all = append(all, r.judge("gateway", figure, "", "<=", most, ratios)...)
			case "net/http alone":
				all = append(all, "", number(r.keep("gateway", figure+", net/http alone", "", ratios)), spread(ratios), "")
			}
			r.line(append([]string{name}, all...)...)
		}
	}
	r.tail()
}
