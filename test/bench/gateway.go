//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
)

// What is asked of the way through HTTP, as a share of the same calls by NATS: as of jobs that have an id, since the gateway gives each one.
const (
	mostHTTPTime = 1.25 // of the median, with one call in flight
	mostHTTPCost = 1.3  // of the processor time of all but the load generator, with loadWindow in flight
)

// playWeb sends calls over HTTP, as a client without NATS does.
func playWeb(url string) error {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: maxLanes}}
	fmt.Println("ready")
	return obey(func(o order) (answer, error) {
		return window(o, func(_, n int, done func(error)) {
			go func() { done(post(client, url+"/v1/sessions/"+session(n)+"/jobs")) }()
		})
	})
}

func post(client *http.Client, url string) error {
	r, err := client.Post(url, "application/json", bytes.NewReader(callBody))
	if err != nil {
		return err
	}
	defer func() { _ = r.Body.Close() }()
	text, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", r.StatusCode, text)
	}
	return err
}

// measureGateway compares calls through the gateway with the same calls by NATS, in turns.
func measureGateway(ctx context.Context, o *options, r *report) error {
	g, _, err := wholeRig(ctx, o, 2, slots, "--engine", "stub", "--python", o.python)
	if err != nil {
		return err
	}
	defer g.stop()
	native := slices.DeleteFunc(g.all(), func(p *process) bool { return p == g.agent })
	served, err := start(o, -1, "whole-gateway", filepath.Join(o.bin, "dspex"), "gateway", "--server", g.url, "--listen", "127.0.0.1:0")
	if err != nil {
		return err
	}
	g.others = append(g.others, served)
	url, err := served.await(ctx, served.lines, "ready ")
	if err != nil {
		return err
	}
	web, err := start(o, -1, "web", o.self, "role", "web", "-server", strings.TrimSpace(url))
	if err != nil {
		return err
	}
	g.others = append(g.others, web)
	if _, err := web.await(ctx, web.lines, "ready"); err != nil {
		return err
	}
	if _, err := g.agent.ask(ctx, order{Do: "call", Window: loadWindow, Count: sessions}); err != nil {
		return err
	}
	ways := []struct {
		name  string
		agent *process
		cost  []*process
		named bool
	}{{"NATS without ids", g.agent, native, false}, {"NATS", g.agent, native, true}, {"HTTP", web, append(slices.Clone(native), served), false}}
	got := map[string][]sample{}
	for _, in := range []int{1, loadWindow} {
		for range o.rounds {
			for _, w := range ways {
				m := newMeter(w.cost...)
				a, err := w.agent.ask(ctx, order{Do: "call", Window: in, Seconds: o.slice.Seconds(), Named: w.named})
				if err != nil {
					return fmt.Errorf("%s, %d in flight: %w", w.name, in, err)
				}
				key := fmt.Sprintf("%s, %d in flight", w.name, in)
				got[key] = append(got[key], m.read(a))
			}
		}
	}
	r.head("gateway: calls over HTTP and by NATS, stub engine, CPU without the load generator", "", "1/s", "p50 us", "p99 us", "CPU us", "spread", "idle", "others", "over NATS asked", "median", "spread", "")
	ratios := func(in int, of func(sample) float64) (all []float64) {
		natural, over := got[fmt.Sprintf("NATS, %d in flight", in)], got[fmt.Sprintf("HTTP, %d in flight", in)]
		for i := range over {
			all = append(all, of(over[i])/of(natural[i]))
		}
		return all
	}
	for _, in := range []int{1, loadWindow} {
		for _, way := range []string{"NATS without ids", "NATS"} {
			name := fmt.Sprintf("%s, %d in flight", way, in)
			r.line(append([]string{name}, cells(r, "gateway", name, got[name])...)...)
		}
		name := fmt.Sprintf("HTTP, %d in flight", in)
		var judged []string
		if in == 1 {
			judged = r.judge("gateway", "p50 over NATS, 1 in flight", "", "<=", mostHTTPTime, ratios(in, sample.p50))
		} else {
			judged = r.judge("gateway", "CPU over NATS, 64 in flight", "", "<=", mostHTTPCost, ratios(in, sample.cost))
		}
		r.line(append(append([]string{name}, cells(r, "gateway", name, got[name])...), judged...)...)
	}
	r.tail()
	return nil
}
