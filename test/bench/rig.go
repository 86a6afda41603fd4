//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/dspex/dspex/internal/dispatch/stores"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
	"github.com/dspex/dspex/test/bench/still"
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
	argv := []string{o.self, "role", "broker", "-dir", dir, "-memory", strconv.Itoa(cmp.Or(o.memory, brokerMemory))}
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
	p.at, err = p.await(ctx, p.lines, "ready")
	return p, err
}

// role starts this binary in another role.
func (g *rig) role(ctx context.Context, role string) (*process, error) {
	return g.add(ctx, role, g.o.self, "role", role, "-server", g.url)
}

// Bounds of a rig that stands still.
const (
	stillTime = 10 * time.Second // beyond the time of an order
	dumpTime  = 5 * time.Second  // of each process that writes its stacks
)

// errStill ends the wait for an order.
var errStill = errors.New("nothing goes on any more")

// ask has one of the rig's processes carry out an order that takes its time. If a process ends meanwhile, or the order takes 10 s more, it
// fails, and a file shows what the broker holds and the stacks of all processes, which end.
func (g *rig) ask(ctx context.Context, from *process, o order) (answer, error) {
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	for _, p := range g.all() {
		go func() {
			select {
			case <-p.ended:
				giveUp(fmt.Errorf("%s ended: %s", p.name, p.tail()))
			case <-ctx.Done():
			}
		}()
	}
	still := time.AfterFunc(time.Duration(o.Seconds*float64(time.Second))+stillTime, func() { giveUp(errStill) })
	defer still.Stop()
	a, err := from.ask(ctx, o)
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(cause, context.Canceled) {
		return a, fmt.Errorf("%w: %s", cause, g.explain())
	}
	return a, err
}

// explain writes down what the rig is at, and ends its processes. It returns where that is found.
func (g *rig) explain() string {
	f, err := os.CreateTemp("", "dspex-bench-still-*.txt")
	if err != nil {
		return err.Error()
	}
	defer func() { _ = f.Close() }()
	var all []still.Process
	for _, p := range g.all() {
		all = append(all, still.Process{Name: p.name, PID: p.cmd.Process.Pid})
	}
	still.Describe(context.Background(), f, g.url, all)
	for _, p := range g.all() {
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // all of them are written in Go
		_ = p.cmd.Process.Signal(syscall.SIGCONT)
		select {
		case <-p.ended:
		case <-time.After(dumpTime):
		}
		text, _ := os.ReadFile(p.log)
		fmt.Fprintf(f, "\n==== %s\n%s", p.name, text)
	}
	return "see " + f.Name()
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

// stubRig is a whole rig with the stub engine, and a connection to its broker.
func stubRig(ctx context.Context, o *options, workers, slots int, more ...string) (*rig, *nats.Conn, error) {
	g, _, err := wholeRig(ctx, o, workers, slots, append([]string{"--engine", "stub", "--python", o.python}, more...)...)
	if err != nil {
		return nil, nil, err
	}
	nc, err := nats.Connect(g.url)
	if err != nil {
		g.stop()
	}
	return g, nc, err
}

// GOMEMLIMIT and GOGC of the broker, as in docker-compose.yml.
const (
	brokerMemory = 110 // MiB
	brokerGC     = 50  // GOGC, percent
)

// playBroker is a nats-server with JetStream on disk. Port 0 is a free one.
func playBroker(ctx context.Context, listen, dir, config string, memory int, syncAlways bool) error {
	debug.SetMemoryLimit(int64(memory) << 20)
	debug.SetGCPercent(brokerGC)
	host, text, err := net.SplitHostPort(listen)
	if err != nil {
		return err
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return err
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	o := &server.Options{ServerName: "bench", JetStream: true, PingInterval: 2 * time.Second, MaxPingsOut: 2}
	if config != "" {
		if o, err = server.ProcessConfigFile(config); err != nil {
			return err
		}
		o.HTTPPort, o.SyncInterval = 0, 0
	}
	o.Host, o.Port, o.StoreDir, o.SyncAlways, o.NoSigs, o.NoLog = host, port, dir, syncAlways, true, true
	s, err := server.NewServer(o)
	if err != nil {
		return err
	}
	s.Start()
	defer func() { s.Shutdown(); s.WaitForShutdown() }()
	if !s.ReadyForConnections(10 * time.Second) {
		return errors.New("the broker does not listen")
	}
	fmt.Println("ready", s.ClientURL())
	untilOrphaned(ctx)
	return nil
}

// untilOrphaned returns when ctx ends or nobody holds stdin any more.
func untilOrphaned(ctx context.Context) {
	gone := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); close(gone) }()
	select {
	case <-ctx.Done():
	case <-gone:
	}
}

// playPeer is the other end of two parts. One is a micro service that answers at once, the other a consumer of every partition of
// DSPEX_JOBS that answers and acknowledges at once, with the consumers that a host makes.
func playPeer(ctx context.Context, url string) error {
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	reply := samples().reply
	service, err := micro.AddService(nc, micro.Config{Name: "bench", Version: "1.0.0", Endpoint: &micro.EndpointConfig{
		Subject: "bench.micro", Handler: micro.HandlerFunc(func(r micro.Request) { _ = r.Respond(reply) }),
	}})
	if err != nil {
		return err
	}
	defer func() { _ = service.Stop() }()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	stop, err := consume(ctx, js, stream.Jobs, "dspex.p.", func(m jetstream.Msg) {
		_ = nc.Publish(m.Headers().Get(jobs.HeaderReplyTo), reply)
		_ = m.Ack()
	})
	if err != nil {
		return err
	}
	defer stop()
	go anchor(ctx, js)
	fmt.Println("ready")
	untilOrphaned(ctx)
	return nil
}

// partitions of the jobs stream, the default of a deployment.
const partitions = 64

// consume makes a host's consumers on all partitions of a stream.
func consume(ctx context.Context, js jetstream.JetStream, name, prefix string, f func(jetstream.Msg)) (func(), error) {
	var running []jetstream.ConsumeContext
	stop := func() {
		for _, c := range running {
			c.Stop()
		}
	}
	for n := range partitions {
		c, err := js.CreateConsumer(ctx, name, jetstream.ConsumerConfig{
			Durable: fmt.Sprintf("p%d", n), FilterSubject: fmt.Sprintf("%s%d.>", prefix, n), AckPolicy: jetstream.AckExplicitPolicy,
			AckWait: 10 * time.Minute, MaxDeliver: -1, MaxAckPending: stream.MaxAckPending, MaxWaiting: 64, MemoryStorage: true,
		})
		if err != nil {
			return stop, err
		}
		cc, err := c.Consume(f, jetstream.PullMaxMessages(256), jetstream.PullExpiry(30*time.Second), jetstream.PullHeartbeat(5*time.Second))
		if err != nil {
			return stop, err
		}
		running = append(running, cc)
	}
	return stop, nil
}

// anchor does what the leading dispatcher does for the jobs stream.
func anchor(ctx context.Context, js jetstream.JetStream) {
	due := time.NewTimer(0)
	defer due.Stop()
	for last, at := uint64(0), time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-due.C:
		}
		pause := stores.AnchorPause(0, 0)
		if ack, err := js.Publish(ctx, stream.AnchorSubject, nil); err == nil {
			if last > 0 {
				pause = stores.AnchorPause(ack.Sequence-last-1, time.Since(at))
				if s, err := js.Stream(ctx, stream.Jobs); err == nil {
					_ = s.DeleteMsg(ctx, last)
				}
			}
			last, at = ack.Sequence, time.Now()
		}
		due.Reset(pause)
	}
}
