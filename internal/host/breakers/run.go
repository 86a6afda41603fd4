package breakers

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/breaker"
	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// Run shares them until ctx ends.
func (s *Shared) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, keys := range []string{control.BreakerKeys, control.FailureKeys} {
		wg.Go(func() {
			s.on.Follow(ctx, stream.Control, keys, func(key string, e stream.Entry) {
				select {
				case s.read <- entry{key, e}:
				case <-ctx.Done():
				}
			})
		})
	}
	s.share(ctx)
}

// share applies what others have written and writes what was found out here.
func (s *Shared) share(ctx context.Context) {
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-s.read:
			s.follow(e.key, e.entry)
			continue
		case <-s.wake:
		case <-again.C:
		}
		left := s.take()
		for name, e := range left {
			if s.write(ctx, name, e) {
				delete(left, name)
			}
		}
		counted := s.shareCounts(ctx)
		if len(left) > 0 || !counted {
			again.Reset(pause)
		}
		s.putBack(left)
	}
}

// follow applies an entry that is newer than what is known.
func (s *Shared) follow(key string, e stream.Entry) {
	if e.Revision <= s.revs[key] {
		return
	}
	s.revs[key] = e.Revision
	if name, err := control.FailedName(key); err == nil {
		s.readSum(name, e)
		return
	}
	name, err := control.BreakerName(key)
	if err == nil && !control.BreakerOf(name, s.host) {
		s.another(name, e.Exists)
	}
	if err != nil || !control.BreakerOf(name, s.host) {
		return
	}
	if !e.Exists {
		s.SetClosed(name)
		return
	}
	open, err := control.ParseOpenBreaker(e.Value)
	if err != nil {
		s.on.Log.Warn("breaker_unreadable", "key", key, "error", err)
		return
	}
	left := s.Config().Timeout
	if age := s.on.Clock.Age(e.Stored); age > s.on.Clock.Mono()-s.began { // older than this process
		if name == control.PoolBreaker(s.host) || name == control.StartBreaker(s.host) { // an earlier process's workers
			s.found(breaker.Event{Change: breaker.Shut, Info: breaker.Info{Name: name, State: breaker.Closed}})
			return
		}
		left -= age
	}
	s.SetOpen(name, left, open.Failures, open.Last)
	s.on.Log.Warn("breaker_open", "breaker", name, "found_by", open.Host, "failures", open.Failures)
}

// write writes what was found out. It reports false if that is to be tried again.
func (s *Shared) write(ctx context.Context, name string, e breaker.Event) bool {
	key := control.BreakerKey(name)
	var rev uint64
	var err error
	if e.Change == breaker.Shut {
		rev, err = s.on.Control.Delete(key, s.revs[key])
	} else {
		rev, err = s.on.Control.PutSync(key, control.OpenBreaker{Name: name, Host: s.host, Failures: e.Info.FailureCount, Last: e.Info.LastFailure}.Bytes(), s.revs[key], 0)
	}
	if errors.Is(err, stream.ErrWrongRevision) { // another host was faster
		entry, err := s.on.Control.Get(ctx, key)
		if err != nil {
			return false
		}
		if entry.Revision == 0 { // nothing is known of it where the bucket was recreated
			delete(s.revs, key)
			return false
		}
		s.follow(key, entry)
		return true
	}
	if err != nil {
		s.on.Log.Warn("breaker_not_shared", "breaker", name, "change", e.Change, "error", err)
		return false
	}
	s.revs[key] = rev
	s.changed(e.Change)
	s.on.Log.Warn("breaker_changed", "breaker", name, "change", e.Change, "failures", e.Info.FailureCount)
	s.publish(e)
	return true
}

// publish publishes a change. It may be lost: dspex_control has the state.
func (s *Shared) publish(e breaker.Event) {
	body, err := json.Marshal(control.BreakerEvent{Event: control.EventBreaker + string(e.Change), At: time.Now().UTC(), Host: s.host, Breaker: e.Info})
	if err == nil {
		err = s.on.NC.Publish(control.SubjectBreakerEvents+string(e.Change), body)
	}
	if err != nil {
		s.on.Log.Warn("event_not_sent", "error", err)
	}
}

// Serve answers dspex.ctl.<host>.breakers: how the breakers stand, after the reset that was requested.
func (s *Shared) Serve() (stop func(), err error) {
	return s.on.Serve(jobs.SubjectControl+s.host+".breakers", func(data []byte, reply func([]byte)) {
		var request control.BreakersRequest
		if len(data) > 0 && json.Unmarshal(data, &request) != nil {
			return
		}
		if request.Reset != "" {
			s.forget(request.Reset)
			s.SetClosed(request.Reset)
		}
		if body, err := json.Marshal(s.Infos()); err == nil {
			reply(body)
		}
	})
}
