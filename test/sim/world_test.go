package sim

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"
)

// world is one simulated deployment and its director.
type world struct {
	plan     plan
	history  *history
	broker   *broker
	tap      *tap
	clocks   clocks
	servers  servers
	points   triggers
	coverage coverage

	workerIDs, cableIDs, runs atomic.Uint64

	supervised context.Context // ends the restarting of processes
	abdicate   context.CancelFunc
	wg         sync.WaitGroup

	mu          sync.Mutex
	processes   map[string]*process // the running incarnation of each name
	zombies     []*process          // that another incarnation has replaced
	closedUntil time.Time           // nothing that has ended starts again before
	lasting     time.Time           // the end of the fault that lasts longest
	broken      error               // of the harness itself
	number      int                 // of partitions, as the operator wants it
	requests    chan func()         // to the director: what must not run on a cable
	spied       bool                // somebody's consumer was made; only the director uses it
}

func newWorld(p plan, dir string) *world {
	w := &world{plan: p, number: p.partitions, history: newHistory(p.partitions), processes: map[string]*process{}, requests: make(chan func(), 64)}
	w.supervised, w.abdicate = context.WithCancel(context.Background())
	w.tap = &tap{h: w.history}
	w.broker = &broker{dir: dir, maps: p.tenants, onUp: w.tap.connect}
	w.points.armed, w.clocks.broker = p.triggers, &w.history.broker
	return w
}

// run plays the plan and returns when everything that it started has ended.
func (w *world) run() error {
	if err := w.broker.start(); err != nil {
		return err
	}
	if err := w.tap.prepare(context.Background(), w.plan); err != nil {
		return err
	}
	for n := range w.plan.dispatchers {
		w.startDispatcher(fmt.Sprint("d", n))
	}
	for _, h := range w.plan.hosts {
		w.startHost(h)
	}
	clients, batches := w.startClients(), w.startBatches()
	w.direct()
	if w.broken == nil {
		w.awaitClients(clients, patience)
		w.awaitClients(batches, batchPatience)
		w.awaitClients(w.lookAtPrograms(), patience)
		w.awaitRest()
	}
	w.abdicate()
	for _, p := range append(w.running(), w.zombies...) {
		p.drain(0)
	}
	w.wg.Wait()
	w.tap.nc.Close()
	w.broker.stop()
	synctest.Wait()
	return w.broken
}

func (w *world) startDispatcher(name string) {
	w.wg.Go(func() { w.supervise(name, w.dispatcher, w.serveDispatcher) })
}

func (w *world) startHost(h hostPlan) {
	w.wg.Go(func() {
		sleep(h.joins)
		w.supervise(h.name, w.host(h.workers, h.slots), w.serveHost)
	})
}

// after runs f later; the world heals only after that.
func (w *world) after(d time.Duration, f func()) {
	w.mu.Lock()
	if end := time.Now().Add(d); end.After(w.lasting) {
		w.lasting = end
	}
	w.mu.Unlock()
	w.wg.Go(func() { sleep(d); f() })
}

// direct plays the faults that have a time and those that the points request, and returns when all of them are over.
func (w *world) direct() {
	for _, f := range w.plan.faults {
		w.serveUntil(w.history.start.Add(f.at))
		w.strike(f, w.find(f.target), "")
	}
	w.serveUntil(w.history.start.Add(w.plan.active))
	w.points.clear()
	w.serveUntil(time.Now().Add(time.Millisecond)) // what strikes at this very moment may not have requested anything yet
	for {
		w.mu.Lock()
		end := w.lasting
		w.mu.Unlock()
		if time.Until(end) < 0 && len(w.requests) == 0 {
			break
		}
		w.serveUntil(end.Add(time.Millisecond))
	}
	w.history.add(event{kind: fault, who: "director", text: "all is healed"})
}

// serveUntil does what faults request of the director: it alone may wait for the whole bubble.
func (w *world) serveUntil(at time.Time) {
	t := time.NewTimer(time.Until(at))
	defer t.Stop()
	for {
		select {
		case f := <-w.requests:
			f()
		case <-t.C:
			return
		}
	}
}

func (w *world) enter(p *process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.processes[p.name] = p
	if w.supervised.Err() != nil {
		p.stop()
	}
}

func (w *world) leave(p *process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.processes[p.name] == p {
		delete(w.processes, p.name)
	}
}

// running are the processes that run, in the order of their names.
func (w *world) running() []*process {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := slices.Collect(maps.Values(w.processes))
	slices.SortFunc(list, func(a, b *process) int { return strings.Compare(a.name, b.name) })
	return list
}

// find returns the running process of a name, nil if it is away.
func (w *world) find(name string) *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.processes[name]
}

// log puts the product's warnings into the history, so that a dump shows them.
func (w *world) log(p *process) *slog.Logger { return slog.New(&logTap{p, nil}) }

type logTap struct {
	p     *process
	attrs []slog.Attr
}

func (l *logTap) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelDebug }
func (l *logTap) WithGroup(string) slog.Handler                    { return l }
func (l *logTap) WithAttrs(a []slog.Attr) slog.Handler {
	return &logTap{l.p, append(slices.Clone(l.attrs), a...)}
}

func (l *logTap) Handle(_ context.Context, r slog.Record) error {
	select {
	case <-l.p.killed:
		return nil
	default:
	}
	var b strings.Builder
	b.WriteString(r.Message)
	add := func(a slog.Attr) bool { fmt.Fprintf(&b, " %s", a); return true }
	for _, a := range l.attrs {
		add(a)
	}
	r.Attrs(add)
	l.p.world.history.log(l.p.who, b.String())
	return nil
}
