//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspex/dspex/test/bench/prober"
)

// Bounds that are requested, in seconds.
const (
	killedP50  = 2.0
	killedP99  = 5.0
	silentMost = 15.0
)

// fleet is a rig with several hosts that come and go.
type fleet struct {
	*rig
	o      *options
	hosts  map[string]*process
	links  map[string]*link
	next   int
	prober *prober.Prober
}

func newFleet(ctx context.Context, o *options, hosts int) (f *fleet, err error) {
	f = &fleet{o: o, hosts: map[string]*process{}, links: map[string]*link{}}
	if f.rig, err = newRig(ctx, o, "fleet", ""); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.stop()
		}
	}()
	disp, err := start(o, -1, "fleet-dispatcher", filepath.Join(o.bin, "dispatcher"), "--server", f.url, "--name", "bench")
	if err != nil {
		return nil, err
	}
	f.others = append(f.others, disp)
	for range hosts {
		if err := f.join(ctx); err != nil {
			return nil, err
		}
	}
	if _, err := disp.await(ctx, disp.lines, "ready"); err != nil {
		return nil, err
	}
	if f.prober, err = prober.New(ctx, f.url); err != nil {
		return nil, err
	}
	return f, f.ready(ctx)
}

func (f *fleet) stop() {
	if f.prober != nil {
		f.prober.Close()
	}
	for name, p := range f.hosts {
		_ = p.cmd.Process.Signal(syscall.SIGCONT)
		f.links[name].mend()
		p.stop()
		f.links[name].close()
	}
	f.rig.stop()
}

// join starts a host behind a link of its own that can be cut.
func (f *fleet) join(ctx context.Context) error {
	f.next++
	name := "host-" + strconv.Itoa(f.next)
	l, err := newLink(f.url)
	if err != nil {
		return err
	}
	p, err := start(f.o, -1, "fleet-"+name, filepath.Join(f.o.bin, "worker-host"), "--server", l.url, "--name", name, "--workers", "1",
		"--slots", "64", "--engine", "stub", "--python", f.o.python)
	if err != nil {
		l.close()
		return err
	}
	f.hosts[name], f.links[name] = p, l
	_, err = p.await(ctx, p.lines, "ready")
	return err
}

// ready waits until every host that should answers for its share.
func (f *fleet) ready(ctx context.Context) error {
	least := partitions/len(f.hosts) - 1
	return f.prober.Await(ctx, "every host has its share", func(lanes []prober.Lane) bool {
		held := map[string]int{}
		for _, l := range lanes {
			held[l.Host]++
		}
		for name := range f.hosts {
			if held[name] < least {
				return false
			}
		}
		return true
	})
}

// drop removes a host that is gone permanently.
func (f *fleet) drop(name string) {
	_ = f.hosts[name].cmd.Process.Kill()
	f.links[name].mend()
	f.hosts[name].stop()
	f.links[name].close()
	delete(f.hosts, name)
	delete(f.links, name)
}

// measureKill kills hosts and waits until their sessions are served elsewhere.
func measureKill(ctx context.Context, o *options, r *report) error {
	f, err := newFleet(ctx, o, 3)
	if err != nil {
		return err
	}
	defer f.stop()
	var all, worst []float64
	for n := range o.faults {
		victim := f.anyHost(n)
		which := f.prober.Owners()[victim]
		at := time.Now()
		if err := f.hosts[victim].cmd.Process.Kill(); err != nil {
			return err
		}
		took, err := f.prober.Recovery(ctx, victim, which, at)
		if err != nil {
			return err
		}
		all, worst = append(all, took...), append(worst, slices.Max(took))
		f.drop(victim)
		if err := f.join(ctx); err != nil {
			return err
		}
		if err := f.ready(ctx); err != nil {
			return err
		}
	}
	r.head(fmt.Sprintf("kill: %d hosts killed under load, %d sessions moved; seconds until a session's next answer", o.faults, len(all)),
		"figure", "p50", "p99", "most", "failures answered")
	r.line("each session", number(r.keep("kill", "served elsewhere", "s", all)), number(quantile(all, 0.99)), number(slices.Max(all)), strconv.Itoa(f.prober.Failures()))
	r.line("last session of a host", number(median(worst)), number(quantile(worst, 0.99)), number(slices.Max(worst)), "")
	r.tail()
	r.judge("kill", "served elsewhere, p50", "s", "<=", killedP50, all)
	r.judge("kill", "served elsewhere, p99", "s", "<=", killedP99, []float64{quantile(all, 0.99)})
	return nil
}

// anyHost picks a host, each in its turn.
func (f *fleet) anyHost(n int) string {
	var names []string
	for name := range f.hosts {
		names = append(names, name)
	}
	slices.Sort(names)
	return names[n%len(names)]
}

// measureSilence stops hosts, and cuts others off, three at a time, and waits until their sessions are served elsewhere.
func measureSilence(ctx context.Context, o *options, r *report) error {
	f, err := newFleet(ctx, o, 6)
	if err != nil {
		return err
	}
	defer f.stop()
	kinds := []string{"hang", "partition", "one way"}
	took := map[string][]float64{}
	for faults := 0; faults < o.faults; faults += len(kinds) {
		held := f.prober.Owners()
		at := time.Now()
		var victims []string
		for i, kind := range kinds {
			victim := f.anyHost(faults/len(kinds) + i)
			victims = append(victims, victim)
			switch kind {
			case "hang":
				err = f.hosts[victim].cmd.Process.Signal(unix.SIGSTOP)
			case "partition":
				f.links[victim].cut(true, true)
			default:
				f.links[victim].cut(true, false)
			}
			if err != nil {
				return err
			}
		}
		for i, victim := range victims {
			each, err := f.prober.Recovery(ctx, victim, held[victim], at)
			if err != nil {
				return fmt.Errorf("%s: %w", kinds[i], err)
			}
			took[kinds[i]] = append(took[kinds[i]], slices.Max(each))
		}
		// They come back as zombies, find that they own nothing, and get their share again.
		for _, victim := range victims {
			_ = f.hosts[victim].cmd.Process.Signal(unix.SIGCONT)
			f.links[victim].mend()
		}
		if err := f.ready(ctx); err != nil {
			return err
		}
	}
	r.head("silence: hosts that hang or are cut off; seconds until the last of their sessions is served elsewhere", "fault", "faults", "p50", "p99", "most")
	for _, kind := range kinds {
		v := took[kind]
		r.line(kind, strconv.Itoa(len(v)), number(r.keep("silence", kind, "s", v)), number(quantile(v, 0.99)), number(slices.Max(v)))
	}
	r.line("failures answered", strconv.Itoa(f.prober.Failures()))
	r.tail()
	for _, kind := range kinds {
		r.judge("silence", kind+", most", "s", "<=", silentMost, []float64{slices.Max(took[kind])})
	}
	return nil
}

// quantile is the value below which the share of the values stays (nearest rank).
func quantile(v []float64, share float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	return s[min(int(share*float64(len(s))), len(s)-1)]
}

// link is a TCP connection to the broker that can be cut in either direction, as a network would: what is sent is held.
type link struct {
	url  string
	l    net.Listener
	to   string
	gate [2]*gate // up, down
}

func newLink(url string) (*link, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	k := &link{url: "nats://" + l.Addr().String(), l: l, to: url[len("nats://"):], gate: [2]*gate{newGate(), newGate()}}
	go k.serve()
	return k, nil
}

func (k *link) serve() {
	for {
		near, err := k.l.Accept()
		if err != nil {
			return
		}
		go func() {
			far, err := net.Dial("tcp", k.to)
			if err != nil {
				_ = near.Close()
				return
			}
			go k.gate[0].carry(far, near)
			k.gate[1].carry(near, far)
		}()
	}
}

func (k *link) cut(up, down bool) {
	if up {
		k.gate[0].shut()
	}
	if down {
		k.gate[1].shut()
	}
}

func (k *link) mend() { k.gate[0].open(); k.gate[1].open() }

func (k *link) close() { _ = k.l.Close() }

// gate holds bytes back while it is shut.
type gate struct {
	mu   sync.Mutex
	held chan struct{} // nil while it is open
}

func newGate() *gate { return &gate{} }

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held == nil {
		g.held = make(chan struct{})
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held != nil {
		close(g.held)
		g.held = nil
	}
}

func (g *gate) pass() {
	g.mu.Lock()
	held := g.held
	g.mu.Unlock()
	if held != nil {
		<-held
	}
}

// carry copies until either side ends.
func (g *gate) carry(to, from net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		g.pass()
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				err = werr
			}
		}
		if err != nil {
			_, _ = to.Close(), from.Close()
			return
		}
	}
}
