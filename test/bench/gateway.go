//go:build linux

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dspex/dspex/test/bench/agent"
	"github.com/dspex/dspex/test/bench/procs"
)

// What is required of the way through HTTP, as a share of the same calls by NATS: as of jobs that have an id, since the gateway gives each one.
const (
	mostHTTPTime = 1.25 // of the median, with one call in flight
	mostHTTPCost = 1.3  // of the processor time of all but the load generator, with loadWindow in flight
	// MiB: GOMEMLIMIT of the broker. It keeps the outcomes of all rounds; near its limit the collector would use most of what it uses.
	gatewayMemory = 400
	warmTime      = 60.0 // seconds: the first use of all sessions may take so long
)

// way is how calls come to the pool.
type way struct {
	name  string
	from  *process
	cost  []*process // all but the load generator
	named bool       // each call has an id
}

// served starts a process that serves HTTP, and one that uses it in a role.
func (g *rig) served(ctx context.Context, name, role string, argv ...string) (server, from *process, err error) {
	if server, err = start(g.o, -1, g.name+"-"+name, argv...); err != nil {
		return nil, nil, err
	}
	g.others = append(g.others, server)
	url, err := server.await(ctx, server.lines, "ready ")
	if err != nil {
		return nil, nil, err
	}
	server.at = url
	if from, err = start(g.o, -1, g.name+"-to-"+name, g.o.self, "role", role, "-server", url); err != nil {
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
	roomy := *o
	roomy.memory, o = gatewayMemory, &roomy
	g, _, err := wholeRig(ctx, o, 2, slots, "--engine", "stub", "--python", o.python)
	if err != nil {
		return err
	}
	defer g.stop()
	native := slices.DeleteFunc(g.all(), func(p *process) bool { return p == g.agent })
	served, web, err := g.served(ctx, "gateway", "web", g.gateway()...)
	if err != nil {
		return err
	}
	bare, toBare, err := g.served(ctx, "bare", "web", o.self, "role", "bare", "-server", g.url)
	if err != nil {
		return err
	}
	if _, err := g.ask(ctx, g.agent, order{Do: "call", Window: loadWindow, Count: agent.Sessions, Seconds: warmTime}); err != nil {
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
				a, err := g.ask(ctx, w.from, order{Do: "call", Window: in, Seconds: o.slice.Seconds(), Named: w.named})
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
	r.head("gateway: p50 of each round, us", "")
	for _, in := range windows {
		for _, w := range ways {
			name := fmt.Sprintf("%s, %d in flight", w.name, in)
			line := []string{name}
			for _, v := range column(got[name], sample.p50) {
				line = append(line, number(v))
			}
			r.line(line...)
		}
	}
	r.tail()
}

// What is required of streams of partial output.
const (
	streamClients   = 200
	streamRate      = 105    // partials a second for each: somewhat more than is required, for the begin and the end
	leastPartials   = 20_000 // a second, all clients together
	leastArrived    = 0.999  // of those sent: what a slow moment drops is in the reply
	mostStreamGrows = 1.1    // memory in the second half, over that in the first
	streamSeconds   = 30.0
	deafClients     = 50
	deafRate        = 50      // partials a second
	deafSize        = 4 << 10 // bytes of each
	mostDeaf        = 1.0     // MB of each
	deafSeconds     = 25.0
)

// measureStreams has clients read streams, and others that never read. A process stands in for the pool.
func measureStreams(ctx context.Context, o *options, r *report) error {
	g, err := newRig(ctx, o, "streams", "")
	if err != nil {
		return err
	}
	defer g.stop()
	if _, err := g.role(ctx, "talker"); err != nil {
		return err
	}
	served, ears, err := g.served(ctx, "gateway", "listener", g.gateway()...)
	if err != nil {
		return err
	}
	port, err := strconv.Atoi(served.at[strings.LastIndexByte(served.at, ':')+1:])
	if err != nil {
		return err
	}
	listen := order{Do: "listen", Window: streamClients, Count: streamRate, Size: 20, Seconds: streamSeconds / 4}
	if _, err := ears.ask(ctx, listen); err != nil { // warms up
		return err
	}
	listen.Seconds = streamSeconds
	stop := sampleMemory(served, port)
	m := newMeter(served)
	a, err := ears.ask(ctx, listen)
	if err != nil {
		return err
	}
	s, used := m.read(a), stop()
	sent := float64(streamClients * streamRate * streamSeconds)
	r.head(fmt.Sprintf("streams: %d clients of the gateway, a process in place of the pool", streamClients), "figure", "asked", "median", "spread", "")
	r.line(append([]string{"partials a second"}, r.judge("streams", "partials", "1/s", ">=", leastPartials, []float64{a.Rate()})...)...)
	r.line(append([]string{"partials that arrive, of those sent"}, r.judge("streams", "arrived", "", ">=", leastArrived, []float64{float64(a.Count) / sent})...)...)
	half := len(used) / 2
	r.line(append([]string{"memory in the second half, over the first"}, r.judge("streams", "memory, second half over first", "", "<=", mostStreamGrows, []float64{slices.Max(used[half:]) / slices.Max(used[:half])})...)...)
	r.line("memory of the gateway, MB", "", number(r.keep("streams", "memory", "MB", []float64{slices.Max(used)})))
	r.line("CPU of the gateway, us a partial", "", number(r.keep("streams", "CPU", "us", []float64{s.cpu})))
	before := median(used[:half])
	stop = sampleMemory(served, port)
	deaf, err := ears.ask(ctx, order{Do: "ignore", Window: deafClients, Count: deafRate, Size: deafSize, Seconds: deafSeconds})
	if err != nil {
		return err
	}
	r.line(append([]string{"clients that never read: MB each"}, r.judge("streams", "never read, memory each", "MB", "<=", mostDeaf, []float64{(slices.Max(stop()) - before) / deafClients})...)...)
	r.line(append([]string{"clients that never read: share that is left"}, r.judge("streams", "never read, left", "", ">=", 1, []float64{float64(deaf.Count) / deafClients})...)...)
	r.tail()
	return nil
}

// sampleMemory looks at a process, and at what the kernel has not sent for it, until the returned function is called, which returns what it
// saw in MB.
func sampleMemory(p *process, port int) func() []float64 {
	stop, seen := make(chan struct{}), make(chan []float64)
	go func() {
		var all []float64
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			all = append(all, p.memory()+procs.SendQueues(port))
			select {
			case <-tick.C:
			case <-stop:
				seen <- all
				return
			}
		}
	}()
	return func() []float64 { close(stop); return <-seen }
}
