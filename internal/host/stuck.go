package host

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// A job can be stuck: the broker does not take what the host must write, or the session's record can only be read by a newer
// version of the host. It has no outcome then, because nobody but the owner of its partition may decide about one and nothing
// counts before it is written. So the host goes on trying, says so loudly, and tells who waits at the deadline, from which on
// no host starts the job. What they are told is no outcome and is stored nowhere.

// snag is what holds a job up, and with it those behind it in its session.
type snag struct {
	s     *session // nil: an anonymous job
	j     *job     // nil: it has been answered
	step  string   // "": it is not stuck, an earlier epoch's loop works on it
	tries int      // that failed while the broker was there
}

// refusals are the tries after which a job is stuck: a write that the broker does not answer takes 6 s with its pause, and a
// broker that comes back, or chooses a leader, needs less than three of them.
const refusals = 3

// The steps at which a job can be stuck.
const (
	stepNewer  = "newer_record" // its session's record is of a newer version
	stepRecord = "record"       // reading record, head or request
	stepRoom   = "store_full"   // it is not started: nothing is run that could not be committed
	stepHead   = "head"
	stepCommit = "commit"
	stepLetter = "dead_letter"
	stepResult = "result"
)

var allSteps = []string{stepNewer, stepRecord, stepRoom, stepHead, stepCommit, stepLetter, stepResult}

// stuck are the snags of the host.
type stuck struct {
	mu    sync.Mutex
	snags map[*snag]struct{}
	said  map[string]time.Time // step -> when the log told of it last
}

// stuckSilence is the time between two words of the log about the same step.
const stuckSilence = time.Minute

// insist repeats f until it succeeds or says that the work is not this epoch's any more (errFenced, errVoid, errLeaving):
// what is decided is not forgotten because a broker does not answer. g says whom that holds up.
func (h *Host) insist(ctx context.Context, g snag, f func() error) error {
	r := refusal{h: h, g: g}
	defer r.over()
	for {
		err := f()
		if err == nil || errors.Is(err, errFenced) || errors.Is(err, errVoid) {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r.failed(err)
		wait(ctx, nil, brokerPause)
	}
}

// insisting is insist for those who choose what to do when a try fails; once is the other choice.
func (h *Host) insisting(ctx context.Context, g snag) func(try func() error) error {
	return func(try func() error) error { return h.insist(ctx, g, try) }
}

func once(try func() error) error { return try() }

// refusal is what is known of a write that is tried again until the broker takes it.
type refusal struct {
	h    *Host
	g    snag
	held *snag // made when it is needed
	full bool  // for want of room; also while it is tried again: nothing is run in between
}

func (r *refusal) failed(err error) {
	r.note(errors.Is(err, stream.ErrStoreFull))
	r.h.log.Warn("broker_awaited", "step", r.g.step, "error", err)
	if r.held == nil {
		copied := r.g
		r.held = &copied
	}
	r.h.stumble(r.held, err)
}

// over is the end of it.
func (r *refusal) over() {
	r.note(false)
	if r.held != nil {
		r.h.free(r.held)
	}
}

func (r *refusal) note(full bool) {
	if full && !r.full {
		r.h.full.Add(1)
	} else if r.full && !full {
		r.h.full.Add(-1)
	}
	r.full = full
}

// stumble counts a try that failed.
func (h *Host) stumble(g *snag, err error) {
	if !h.nc.IsConnected() {
		return
	}
	if g.tries++; g.tries == refusals {
		h.catch(g, err)
	}
}

// catch makes the job count as stuck until it is freed. The session's loop is the caller, or waits for it.
func (h *Host) catch(g *snag, err error) {
	if j := g.j; j != nil && g.s != nil {
		g.s.mu.Lock()
		if !j.weighed {
			j.weigh(h)
		}
		g.s.mu.Unlock()
	}
	k := &h.stuck
	k.mu.Lock()
	k.addLocked(g)
	if k.said == nil {
		k.said = map[string]time.Time{}
	}
	quiet := time.Since(k.said[g.step]) < stuckSilence
	if !quiet {
		k.said[g.step] = time.Now()
	}
	k.mu.Unlock()
	if !quiet {
		h.log.Error("jobs_stuck", "step", g.step, "error", err, "hint", stuckHint(g.step))
	}
}

func (k *stuck) addLocked(g *snag) {
	if k.snags == nil {
		k.snags = map[*snag]struct{}{}
	}
	k.snags[g] = struct{}{}
}

func stuckHint(step string) string {
	if step == stepNewer {
		return "a host of the newer version goes on with the session: finish the upgrade, or drain this host"
	}
	return "may this host write it (permissions in nats.conf), and has the broker room?"
}

func (h *Host) free(g *snag) {
	h.stuck.mu.Lock()
	defer h.stuck.mu.Unlock()
	delete(h.stuck.snags, g)
}

// list returns the snags.
func (k *stuck) list() []*snag {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := make([]*snag, 0, len(k.snags))
	for g := range k.snags {
		all = append(all, g)
	}
	return all
}

// steps counts the stuck jobs by step; nil if there are none.
func (k *stuck) steps() map[string]int {
	k.mu.Lock()
	defer k.mu.Unlock()
	var steps map[string]int
	for g := range k.snags {
		if g.step == "" {
			continue
		}
		if steps == nil {
			steps = map[string]int{}
		}
		steps[g.step]++
	}
	return steps
}

// tellStuck answers those whose deadline has passed while they were held up.
func (h *Host) tellStuck() {
	for _, g := range h.stuck.list() {
		for _, j := range g.overdue(h) {
			r := jobs.Reply{Job: j.env.Job, Err: jobs.OutcomePending(g.why())}
			h.tell(j.env.ReplyTo, j.env.Type, j.env.Job, 0, r.Append(nil))
		}
	}
}

// why tells a client what holds the job up.
func (g *snag) why() string {
	switch g.step {
	case "":
		return "an earlier job of the session still runs, since before the broker was lost"
	case stepNewer:
		return "a newer version of dspex wrote the session's record"
	}
	return "the broker does not take what the host writes (" + g.step + ")"
}

// overdue marks those who are to be told, and returns them.
func (g *snag) overdue(h *Host) (late []*job) {
	look := func(j *job) {
		if !j.told && !j.answered && j.bound > 0 && h.leftOf(j, j.bound) <= 0 {
			j.told = true
			late = append(late, j)
		}
	}
	if g.s == nil {
		look(g.j)
		return late
	}
	g.s.mu.Lock()
	defer g.s.mu.Unlock()
	if g.j != nil {
		look(g.j)
	}
	for i, j := range g.s.queue {
		if g.step == "" && i == 0 {
			continue // the one that runs: who waits for it is answered there
		}
		if !j.weighed {
			j.weigh(h)
		}
		look(j)
	}
	return late
}

// outlast waits for the session's loop of an earlier epoch. Early ends are not for this one to decide: their write would void
// the attempt that runs.
func (s *session) outlast() {
	h, g := s.p.h, &snag{s: s}
	h.stuck.mu.Lock()
	h.stuck.addLocked(g)
	h.stuck.mu.Unlock()
	defer h.free(g)
	wait(s.p.ctx, s.after, 0)
	s.after = nil
}

// awaitRoom waits while the broker has no room.
func (s *session) awaitRoom(ctx context.Context, t *task) error {
	h := s.p.h
	if h.full.Load() == 0 {
		return nil
	}
	g := &snag{s: s, j: t.job, step: stepRoom}
	h.catch(g, stream.ErrStoreFull)
	defer h.free(g)
	for h.full.Load() > 0 && !t.isCancelled() {
		if err := s.pause(ctx, t, nil, brokerPause); err != nil {
			return err
		}
	}
	return nil
}

// newerPause is the time between looks at a record that a newer version wrote. Its session gets on in another epoch, when a
// host of that version has it, or when the record's life is over.
const newerPause = 30 * time.Second

// outwait waits, without a turn, beside a record of a newer version, which is left alone.
func (s *session) outwait(j *job, err error) {
	s.yield()
	g := &snag{s: s, j: j, step: stepNewer}
	s.p.h.catch(g, err)
	defer s.p.h.free(g)
	wait(s.p.starts, nil, newerPause)
}
