package pyproc

import (
	"context"
	"errors"
	"sync"

	"github.com/dspex/dspex/internal/pyproc/pace"
	"github.com/dspex/dspex/internal/pyproc/proc"
)

// New makes a pool. Nothing runs before Run, which also reports what is wrong with cfg.
func New(cfg Config) *Pool {
	p := &Pool{
		cfg: cfg.withDefaults(), rules: pace.DefaultRules,
		eventKick: make(chan struct{}, 1), changed: make(chan struct{}), roomChanged: make(chan struct{}),
	}
	p.limits = p.cfg.Limits()
	p.waiters.Weigh(p.limits.Weights)
	p.recruitLocked()
	return p
}

// Run starts all workers at once, replaces those that die and, beforehand, those that are due, until ctx ends. Then it sends SHUTDOWN, after
// Config.StopGrace SIGTERM, 2 s later SIGKILL, and returns nil when every process is reaped and every goroutine has
// ended. It fails at once if the Config is wrong. A pool runs once.
func (p *Pool) Run(ctx context.Context) error {
	if err := p.begin(); err != nil {
		return err
	}
	var all, helpers sync.WaitGroup
	defer helpers.Wait()
	if p.start == nil {
		defer p.openStarter(&helpers)()
	}
	ended := make(chan struct{})
	helpers.Go(func() { p.reportEvents(ended) })
	p.employAll(func(s *supervisor) { all.Go(func() { s.run(ctx) }) })
	<-ctx.Done()
	p.refuseAll()
	all.Wait()
	p.lingering.Wait()
	close(ended)
	return nil
}

// openStarter gives the pool its way to start workers. The end of it comes after every process is reaped: the end of its thread
// kills what it started.
func (p *Pool) openStarter(helpers *sync.WaitGroup) (end func()) {
	sp := proc.NewSpawner()
	helpers.Go(sp.Run)
	p.start = sp.Spawn
	if !p.cfg.Zygote || !canFork {
		return sp.Close
	}
	z := newZygotes(func(ctx context.Context) (forker, error) { return p.openZygote(ctx, sp) }, sp.Spawn, p.onlySpawn)
	p.useZygotes(z)
	return func() {
		z.close()
		sp.Close()
	}
}

func (p *Pool) useZygotes(z *zygotes) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.zygotes, p.start = z, z.start
}

// onlySpawn is called when it is clear that no more workers will be forked.
func (p *Pool) onlySpawn(why error) {
	p.cfg.Log.Warn("workers_not_forked", "error", why.Error(), "hint", "workers are started one by one: each takes its own time and memory")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.replanLocked() // slow starts are worth a spare
}

// employAll starts the supervisors that there are, and those to come.
func (p *Pool) employAll(employ func(*supervisor)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.employ = employ
	for _, s := range p.supervisors {
		employ(s)
	}
}

func (p *Pool) begin() error {
	if err := p.cfg.problems(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running {
		return errors.New("pyproc: expected one Run of a pool, got another")
	}
	p.running = true
	p.replanLocked()
	return nil
}

// refuseAll stops accepting calls.
func (p *Pool) refuseAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopping = true
	p.refuseWaitersLocked(ErrStopped)
	p.announceLocked()
}
