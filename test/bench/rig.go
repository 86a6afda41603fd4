//go:build linux

package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// rig is a group of processes around one broker.
type rig struct {
	o      *options
	name   string
	url    string
	broker *process
	others []*process // in the order of their start
	agent  *process   // what carries out the orders
}

// newRig starts a broker, with a configuration file or without.
func newRig(ctx context.Context, o *options, name, config string) (*rig, error) {
	g := &rig{o: o, name: name}
	dir, err := os.MkdirTemp(o.dir, name)
	if err != nil {
		return nil, err
	}
	argv := []string{o.self, "role", "broker", "-dir", dir}
	if config != "" {
		argv = append(argv, "-config", config)
	}
	if o.syncAlways {
		argv = append(argv, "-sync-always")
	}
	if g.broker, err = start(o, -1, name+"-broker", argv...); err != nil {
		return nil, err
	}
	if g.url, err = g.broker.await(ctx, g.broker.lines, "ready "); err != nil {
		g.stop()
		return nil, err
	}
	return g, nil
}

// add starts a process of the rig and waits until it is ready.
func (g *rig) add(ctx context.Context, name string, argv ...string) (*process, error) {
	p, err := start(g.o, -1, g.name+"-"+name, argv...)
	if err != nil {
		return nil, err
	}
	g.others = append(g.others, p)
	_, err = p.await(ctx, p.lines, "ready")
	return p, err
}

// role starts this binary in another role.
func (g *rig) role(ctx context.Context, role string) (*process, error) {
	return g.add(ctx, role, g.o.self, "role", role, "-server", g.url)
}

// all are the processes whose cost counts.
func (g *rig) all() []*process { return append([]*process{g.broker}, g.others...) }

func (g *rig) stop() {
	if g == nil {
		return
	}
	for _, p := range slices.Backward(g.others) {
		p.stop()
	}
	g.broker.stop()
}

// partsRig is a broker with what the single parts need.
func partsRig(ctx context.Context, o *options) (g *rig, err error) {
	if g, err = newRig(ctx, o, "parts", ""); err != nil {
		return nil, err
	}
	if g.agent, err = g.role(ctx, "writer"); err == nil {
		_, err = g.role(ctx, "peer")
	}
	if err != nil {
		g.stop()
	}
	return g, err
}

// wholeRig is the product: dispatcher and worker-host as they are built, and a client.
func wholeRig(ctx context.Context, o *options, workers, slots int, more ...string) (g *rig, host *process, err error) {
	if g, err = newRig(ctx, o, "whole", ""); err != nil {
		return nil, nil, err
	}
	argv := append([]string{filepath.Join(o.bin, "worker-host"), "--server", g.url, "--name", "bench",
		"--workers", strconv.Itoa(workers), "--slots", strconv.Itoa(slots)}, more...)
	// The host waits for the dispatcher to make the streams, the dispatcher reports that it is ready when the host serves.
	if host, err = start(o, -1, "whole-host", argv...); err == nil {
		g.others = append(g.others, host)
		_, err = g.add(ctx, "dispatcher", filepath.Join(o.bin, "dispatcher"), "--server", g.url, "--name", "bench")
	}
	if err == nil {
		g.agent, err = g.role(ctx, "client")
	}
	if err != nil {
		g.stop()
	}
	return g, host, err
}
