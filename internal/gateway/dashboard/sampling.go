package dashboard

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/insight"
)

// Bounds of the second looks at attempts that seem to run for long.
const (
	lookedAtOnce = 8
	lookAgain    = 15 * time.Second
)

// watch returns what is watched for a scope, and starts it for the first viewer.
func (s *Server) watch(sc scope) (*watch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.watches[sc.key]; w != nil {
		w.touch()
		return w, nil
	}
	if len(s.watches) >= mostWatches {
		return nil, errors.New("the gateway watches as many tenants as it may: try again in some minutes")
	}
	if s.ctx.Err() != nil {
		return nil, errors.New("the gateway ends")
	}
	w := &watch{scope: sc, source: &patient{client: sc.client, own: sc.own}, changed: make(chan struct{}), used: time.Now()}
	w.tail.tenant = ""
	if sc.filtered {
		w.tail.tenant = sc.tenant
	}
	w.made = figures(w)
	s.watches[sc.key] = w
	s.wg.Go(func() {
		w.run(s.ctx)
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watches, sc.key)
	})
	return w, nil
}

func (w *watch) run(ctx context.Context) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var following sync.WaitGroup
	defer following.Wait()
	defer stop()
	tick := time.NewTicker(sampleEach)
	defer tick.Stop()
	for follows := false; !w.idle(); {
		w.sample(ctx)
		if !follows && w.source.allowed() { // who may list hosts may follow events
			follows = true
			following.Go(func() { w.tail.follow(ctx, w.scope.own) })
		}
		if follows {
			w.lookAgain(ctx)
			if more := w.logs.turn(ctx, w.scope.own); more != nil {
				following.Go(more)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// sample takes a sample and makes the figures of it.
func (w *watch) sample(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, sampleTime)
	defer cancel()
	one := insight.Take(ctx, w.source)
	second := w.tail.take()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen.Add(one)
	w.series.add(one, second)
	w.made, w.parts = figures(w), nil
	close(w.changed)
	w.changed = make(chan struct{})
}

// longRun is how long an attempt runs before its worker is named: the default timeout of an attempt.
const longRun = 30 * time.Second

// suspects are jobs of which an attempt seems to run for long: its end may have been missed, as every event may be.
func (t *tail) suspects(now time.Time) (found []jobKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, w := range t.workers {
		for key, since := range w.Running {
			if len(found) == lookedAtOnce {
				return found
			}
			if now.Sub(since) > longRun && now.Sub(t.looked[key]) > lookAgain {
				found = append(found, key)
				t.looked[key] = now
			}
		}
	}
	return found
}

// ended removes a job from those that run. why is the error that it ended with, nil if there is none.
func (t *tail) ended(key jobKey, why *dspex.Error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.looked, key)
	for _, w := range t.workers {
		if _, ok := w.Running[key]; ok {
			delete(w.Running, key)
			t.running--
		}
	}
	if j := t.jobs[key]; j != nil {
		for i := range j.Attempts {
			a := &j.Attempts[i]
			if a.Running && why != nil {
				a.Category, a.Code = string(why.Category), why.Code
			}
			a.Running = false
		}
	}
}

// lookAgain queries whether the jobs that seem to run for long do.
func (w *watch) lookAgain(ctx context.Context) {
	for _, key := range w.tail.suspects(time.Now()) {
		client := w.scope.own
		if key.tenant != w.scope.ownTenant {
			client = client.Admin().Tenant(key.tenant)
		}
		job, err := client.GetJob(ctx, dspex.JobRef{Session: key.session, ID: key.job})
		if e := asError(err); e != nil && e.Code == dspex.CodeJobUnknown || err == nil && job.Status.Final() {
			w.tail.ended(key, asError(job.Err))
		}
	}
}
