//go:build linux

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"time"

	"github.com/nats-io/nats.go"
)

// tookPattern finds what `dspex dev --verbose` says of its start: name=duration behind msg=started.
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

// noteStages reads what the process says of its own start.
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
