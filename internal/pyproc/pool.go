package pyproc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/fair"

	"github.com/dspex/dspex/internal/pyproc/pace"
	"github.com/dspex/dspex/internal/pyproc/proc"
)

// Pool keeps workers alive, Config.Size of them and more under load, and lends out their slots. All methods may be called from any goroutine.
type Pool struct {
	cfg     Config
	rules   pace.Rules
	start   func(context.Context, proc.Spec) (*proc.Child, error) // tests: goroutines instead of processes
	zygotes *zygotes                                              // nil: workers are spawned

	lingering sync.WaitGroup // workers that outlived SIGKILL: Run waits, their supervisors do not

	eventKick chan struct{} // capacity 1: events is not empty

	mu          sync.Mutex
	running     bool
	stopping    bool
	supervisors []*supervisor
	burst       int       // workers above Config.Size that there should be
	pressed     time.Time // when everything that serves was needed last, if there is a burst
	full        bool      // as many as there should be have served at once
	slots       int       // of one worker, as the last one said that became ready
	recycled    int       // workers replaced because they were due
	edges       [numStates][numStates]uint64
	waiters     fair.Queue[*waiter]
	turned      []*waiter     // whose turn has come, and who wait for a whole worker
	changed     chan struct{} // closed and renewed when Ready must look again
	roomChanged chan struct{} // closed and renewed when Room may tell of more
	roomWatched bool          // somebody has roomChanged
	events      []Event       // not yet told
	illegal     int           // edges that the table does not have: a bug
}

// New makes a pool. Nothing runs before Run, which also reports what is wrong with cfg.
func New(cfg Config) *Pool {
	p := &Pool{
		cfg: cfg.withDefaults(), rules: pace.DefaultRules,
		eventKick: make(chan struct{}, 1), changed: make(chan struct{}), roomChanged: make(chan struct{}),
	}
	// More supervisors than workers: for replacements that come before the old ones have gone.
	for n := range max(0, cfg.Size) + max(0, cfg.Overflow) + max(0, cfg.Spares) + max(2, cfg.Size/2) {
		p.supervisors = append(p.supervisors, &supervisor{pool: p, name: fmt.Sprintf("%s/%d", cfg.Name, n+1), kick: make(chan struct{}, 1)})
	}
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
	told := make(chan struct{})
	helpers.Go(func() { p.tellEvents(told) })
	for _, s := range p.supervisors {
		all.Go(func() { s.run(ctx) })
	}
	<-ctx.Done()
	p.refuseAll()
	all.Wait()
	p.lingering.Wait()
	close(told)
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

// refuseAll ends the taking of calls.
func (p *Pool) refuseAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopping = true
	p.refuseWaitersLocked(ErrStopped)
	p.announceLocked()
}

// Ready waits until a worker is ready. It fails with the errors of the starts once every supervisor has failed to start one,
// with ErrStopped if the pool stops and with ctx's error.
func (p *Pool) Ready(ctx context.Context) error {
	for {
		done, changed, err := p.readiness()
		if done {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("pyproc: no worker is ready: %w", ctx.Err())
		}
	}
}

func (p *Pool) readiness() (done bool, changed <-chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopping {
		return true, nil, ErrStopped
	}
	var failed []error
	wanted := 0
	for _, s := range p.supervisors {
		if !s.wanted {
			continue
		}
		wanted++
		if s.w != nil && s.w.open {
			return true, nil, nil
		}
		if s.startErr != nil {
			failed = append(failed, s.startErr)
		}
	}
	if len(failed) > 0 && len(failed) == wanted {
		return true, nil, errors.Join(failed...)
	}
	return false, p.changed, nil
}

func (p *Pool) announceLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// move changes the state of a supervisor.
func (p *Pool) move(s *supervisor, to State, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moveLocked(s, to, err)
}

func (p *Pool) moveLocked(s *supervisor, to State, err error) {
	from := s.state
	if from == to {
		return
	}
	p.edges[from][to]++
	if from == Idle && to == Busy || from == Busy && to == Idle { // every call's: legal, counted, and not told
		s.state = to
		return
	}
	if !from.leadsTo(to) {
		p.illegal++
		err = errors.Join(err, fmt.Errorf("pyproc: bug: no edge leads from %s to %s", from, to))
	}
	s.state = to
	e := Event{At: time.Now(), Worker: s.name, From: from, To: to, Err: err}
	if s.w != nil {
		e.ID, e.PID = s.w.id, s.w.Child.PID
	}
	p.events = append(p.events, e)
	proc.Poke(p.eventKick)
}

// tellEvents logs and reports the edges until done is closed and all are told.
func (p *Pool) tellEvents(done <-chan struct{}) {
	for {
		last := false
		select {
		case <-p.eventKick:
		case <-done:
			last = true
		}
		p.mu.Lock()
		events := p.events
		p.events = nil
		p.mu.Unlock()
		for _, e := range events {
			p.logEvent(e)
			p.cfg.OnEvent(e)
		}
		if last {
			return
		}
	}
}

func (p *Pool) logEvent(e Event) {
	level := slog.LevelDebug
	attrs := []any{"worker", e.Worker, "pid", e.PID, "from", e.From.String(), "to", e.To.String()}
	if e.Err != nil {
		level = slog.LevelWarn
		attrs = append(attrs, "error", e.Err.Error())
	}
	p.cfg.Log.Log(context.Background(), level, "worker_state", attrs...)
}
