package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/dispatch"
	"github.com/dspex/dspex/internal/host"
	natslink "github.com/dspex/dspex/internal/link"
	"github.com/dspex/dspex/internal/stream"
)

// process is one incarnation of a dispatcher, a host or a client: what an operating system would kill or stop as a whole.
type process struct {
	world      *world
	name       string // of the host or dispatcher; the same for all incarnations
	who        string // name.incarnation
	cable      *cable
	pool       *pool // of a host
	client     bool
	dispatches bool // it is a dispatcher

	ctx  context.Context // ended by drain and kill
	stop context.CancelFunc

	mu        sync.Mutex
	nc        *nats.Conn
	killed    chan struct{}
	abandoned chan struct{} // closed: the supervisor takes it for dead and starts another one
	stayed    time.Duration // away after its end
}

// restartPause is the supervisor's wait before it starts a process again.
const restartPause = time.Second

// supervise runs incarnation after incarnation until the world stops. serve returns when a process has ended by itself.
func (w *world) supervise(name string, boot func(who string) *process, serve func(*process) error) {
	for n := 1; w.supervised.Err() == nil; n++ {
		p := boot(fmt.Sprintf("%s.%d", name, n))
		w.enter(p)
		w.history.add(event{kind: booted, who: p.who})
		ended := p.begin(serve)
		select {
		case <-ended:
		case <-p.killed:
		case <-p.abandoned:
		}
		w.leave(p)
		w.restAfter(p)
	}
}

// restAfter waits until the next incarnation may start.
func (w *world) restAfter(p *process) {
	w.mu.Lock()
	closed := time.Until(w.closedUntil)
	w.mu.Unlock()
	pause := time.NewTimer(max(restartPause, p.away(), closed))
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-w.supervised.Done():
	}
}

// begin runs the process; the channel is closed when it has ended by itself.
func (p *process) begin(serve func(*process) error) <-chan struct{} {
	ended := make(chan struct{})
	p.world.wg.Go(func() {
		defer close(ended)
		defer p.stop()
		err := p.connect()
		if err == nil {
			err = serve(p)
			p.nc.Close()
		}
		if err != nil && p.ctx.Err() == nil {
			p.world.history.add(event{kind: fault, who: p.who, text: "process ends: " + err.Error()})
		}
	})
	return ended
}

func (w *world) process(who string) *process {
	p := &process{world: w, who: who, killed: make(chan struct{}), abandoned: make(chan struct{})}
	p.name, _, _ = strings.Cut(who, ".")
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.cable = w.broker.cable(&cable{latency: w.plan.latency, rng: rand.New(rand.NewPCG(w.plan.seed, w.cableIDs.Add(1)))})
	p.cable.servers = &w.servers
	p.cable.watch = func(m publication) verdict { return w.passes(p, m) }
	return p
}

// dispatcher makes the processes of a dispatcher.
func (w *world) dispatcher(who string) *process {
	p := w.process(who)
	p.dispatches = true
	p.cable.arrives, p.cable.stamps = func(publication) verdict { return verdict{} }, w.clocks.restamp
	return p
}

// connect dials as the binaries do.
func (p *process) connect() error {
	way := []nats.Option{nats.InProcessServer(p.cable)}
	if p.world.plan.clustered && (p.pool != nil || p.dispatches) {
		way = p.clustered()
	}
	options := append(append(natslink.ConnectOptions(p.who), way...), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	nc, err := nats.Connect("", options...)
	for range 100 { // the broker may die in that moment
		if err == nil {
			break
		}
		sleep(100 * time.Millisecond)
		nc, err = nats.Connect("", options...)
	}
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	p.mu.Lock()
	p.nc = nc
	p.mu.Unlock()
	if p.world.plan.clustered && (p.pool != nil || p.dispatches) {
		p.keep()
	}
	return nil
}

// kill is SIGKILL: nothing that the process does from here on has any effect, and what it has sent but the broker not read is
// lost. Its goroutines run on in isolation and end.
func (p *process) kill(away time.Duration) {
	p.mu.Lock()
	select {
	case <-p.killed:
		p.mu.Unlock()
		return
	default:
	}
	p.stayed = away
	close(p.killed)
	nc := p.nc
	p.mu.Unlock()
	p.cable.cutOff()
	if p.pool != nil {
		p.pool.kill()
	}
	p.stop()
	if nc != nil {
		p.world.wg.Go(nc.Close)
	}
}

// abandon lets another incarnation start while this one may still run.
func (p *process) abandon() {
	p.world.mu.Lock()
	p.world.zombies = append(p.world.zombies, p)
	p.world.mu.Unlock()
	close(p.abandoned)
}

// drain is SIGTERM.
func (p *process) drain(away time.Duration) {
	p.mu.Lock()
	p.stayed = away
	p.mu.Unlock()
	p.stop()
}

func (p *process) away() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stayed
}

// freeze is SIGSTOP until the duration is over: bytes wait in the kernel, workers go on but nobody reads them.
func (p *process) freeze(d time.Duration) {
	p.hold(true, true, d)
	if p.pool != nil {
		p.pool.gate.cut()
		p.world.after(d, p.pool.gate.mend)
	}
}

// hold cuts the process off from the broker for a while, in one direction or both.
func (p *process) hold(up, down bool, d time.Duration) {
	p.cable.partition(up, down)
	p.world.after(d, func() { p.cable.heal(up, down) })
}

// host makes the processes of a host.
func (w *world) host(workers, slots int) func(string) *process {
	return func(who string) *process {
		p := w.process(who)
		p.pool = newPool(w, who, workers, slots)
		p.cable.arrives, p.cable.stamps = func(m publication) verdict { return w.arrives(p, m) }, w.clocks.restamp
		return p
	}
}

func (w *world) serveHost(p *process) error {
	h, err := host.New(host.Config{Name: p.name, NC: p.nc, Pool: p.pool, Models: models{}, Capacity: p.pool.size * p.pool.slots,
		SessionIdle: w.plan.idle, Machine: w.clocks.machine(p.name), Log: w.log(p)})
	if err != nil {
		return err
	}
	return h.Run(p.ctx)
}

func (w *world) serveDispatcher(p *process) error {
	d, err := dispatch.New(dispatch.Config{Name: p.name, NC: p.nc, Machine: w.clocks.machine(p.name), Log: w.log(p), Settings: stream.Settings{Accounts: w.plan.tenants}})
	if err != nil {
		return err
	}
	return d.Run(p.ctx)
}
