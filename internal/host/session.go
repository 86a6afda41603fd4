package host

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/fair"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// Why the processing of a job stops without an outcome.
var (
	errFenced  = errors.New("fenced: the partition belongs to another epoch")
	errVoid    = errors.New("void: the session's record moved on, read it again")
	errLeaving = errors.New("the epoch ends before the job has started")
)

// session is one session during one epoch of its partition: its queue, and what is known of its record. One goroutine, the
// loop, runs its jobs and makes every write; others ask it.
type session struct {
	p     *partition
	ref   jobs.SessionRef
	after <-chan struct{} // the loop of an earlier epoch that still runs a job of this session

	mu      sync.Mutex
	busy    bool          // there is work: the loop runs, or waits for its turn
	asks    chan ask      // early ends, served wherever the loop waits; nil while none runs, as are wake and quit
	wake    chan struct{} // capacity 1: a job has come, its deadline may be the next
	quit    chan struct{} // closes when the loop ends
	queue   []*job        // by sequence
	calls   int           // of the queue
	running *job
	cancel  context.CancelCauseFunc // of the running attempt
	until   time.Time               // the running attempt lasts no longer
	wants   time.Time               // since when the job at the head is there

	// Owned by loop.
	known   bool // record and head were read
	bare    bool // the record's last outcome was dropped: it must be read again before the record is written
	record  *jobs.Record
	recRev  uint64
	head    *jobs.Head
	headRev uint64
	loaded  time.Time // local clock: of the last read or write of the record
	stamp   time.Time // broker's clock: of the last write of the record
	since   moment    // jobs accepted later cannot have a result
	lost    bool      // a state is known to be lost
	worker  uint64    // the worker that holds version
	version uint64
	used    time.Time // local clock: of the last success in worker
	quiet   time.Time // local clock: no duties before, after one that failed
	turn    turn      // what the loop runs with
	fresh   bool      // nothing of it ran a moment before the job at the head came
	rested  time.Time // local clock: since when it has had no work
	refused *refusal  // of the result of an early end, nil: none
}

// job is one delivered message. It keeps no payload beyond the host's budget: that is read again when the job starts.
type job struct {
	seq    uint64
	stored time.Time
	from   jobs.Source
	env    jobs.Envelope
	bad    *jobs.Error // what is wrong with the headers
	size   int
	data   []byte // nil when over the payload budget

	came     clock.Mono    // when it came here
	bound    time.Duration // of all of it, from its acceptance; 0: no deadline. Known after weigh
	weighed  bool
	repeat   bool // an earlier job of this id was waiting or running when it came: that one's outcome is its own
	answered bool // ended early, result and reply are out
	told     bool // that its outcome is not known at the deadline

	mu        sync.Mutex
	reply     string        // acknowledgements of the latest delivery go there
	again     chan struct{} // a redelivery came; nil while the job waits
	cancelled bool
}

// payloadBudget bounds the bytes of waiting payloads that a host keeps; beyond it they are read again when they start.
const payloadBudget = 8 << 20

func (h *Host) newJob(m jetstream.Msg, meta *jetstream.MsgMetadata) *job {
	j := &job{seq: meta.Sequence.Stream, stored: meta.Timestamp, came: h.clock.Mono(), reply: m.Reply(), size: len(m.Data())}
	j.from, j.env, j.bad = jobs.ParseStored(m.Subject(), m.Headers(), j.seq, h.accounts.Load())
	j.data = m.Data()
	if h.held.Add(int64(j.size)) > payloadBudget {
		j.weigh(h) // what is known of the deadline later must be learnt now
		h.release(j)
	}
	return j
}

// weigh learns the deadline while the payload is at hand.
func (j *job) weigh(h *Host) {
	t := &task{job: j}
	_ = t.read(h, j.data) // what is wrong with it is said at its turn
	j.bound, j.weighed = t.total, true
}

// body returns the payload, reading it again when it was not kept.
func (h *Host) body(ctx context.Context, j *job) ([]byte, error) {
	if j.data != nil || j.size == 0 {
		return j.data, nil
	}
	m, err := stream.GetSequence(ctx, h.nc, stream.Jobs, j.seq)
	return m.Data, err
}

func (h *Host) release(j *job) {
	if j.data != nil {
		h.held.Add(-int64(j.size))
		j.data = nil
	}
}

// add files a delivery and reports whether the caller must start the loop. Repeats of what is queued or running are dropped.
func (s *session) add(j *job) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != nil && s.running.seq == j.seq {
		s.running.redelivered(j.reply)
		s.p.h.release(j)
		return false
	}
	i, found := slices.BinarySearchFunc(s.queue, j.seq, func(q *job, seq uint64) int { return cmp.Compare(q.seq, seq) })
	if found {
		s.queue[i].redelivered(j.reply)
		s.p.h.release(j)
		return false
	}
	same := func(q *job) bool { return q.env.Job == j.env.Job }
	j.repeat = s.running != nil && same(s.running) || slices.ContainsFunc(s.queue[:i], same)
	s.queue = slices.Insert(s.queue, i, j)
	s.countLocked(j, 1)
	if s.busy {
		select {
		case s.wake <- struct{}{}:
		default:
		}
		return false
	}
	now := time.Now()
	s.fresh = now.Sub(s.rested) >= freshAfter
	s.busy, s.wants = true, now
	return true
}

// freshAfter is how long a session is without work before it counts as one that was idle.
const freshAfter = time.Second

// key says whose turn it is when slots are scarce.
func (s *session) key() fair.Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keyLocked()
}

func (s *session) keyLocked() fair.Key {
	head := s.running
	if head == nil && len(s.queue) > 0 {
		head = s.queue[0]
	}
	k := fair.Key{Class: fair.Queued, Tenant: s.ref.Tenant, Fresh: s.fresh}
	if head != nil {
		k.Class = head.class()
	}
	return k
}

// class is the job's share of the slots.
func (j *job) class() fair.Class {
	if j.env.Mode == jobs.ModeCall {
		return fair.Call
	}
	return fair.Queued
}

// begin starts the loop. While a session waits for its turn it has none of what the loop needs: there may be very many.
func (s *session) begin(t turn) {
	s.mu.Lock()
	s.asks, s.wake, s.quit = make(chan ask), make(chan struct{}, 1), make(chan struct{})
	s.mu.Unlock()
	s.turn = t
	go s.loop()
}

// expires reports whether the job has a deadline of its own to wait for.
func (j *job) expires() bool { return j.bound > 0 && !j.repeat }

func (j *job) redelivered(reply string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.reply = reply
	select {
	case j.again <- struct{}{}:
	default:
	}
}

func (j *job) delivery() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.reply
}

func (s *session) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.busy
}

func (s *session) inProgress() {
	s.mu.Lock()
	j := s.running
	s.mu.Unlock()
	if j != nil {
		_ = s.p.h.nc.Publish(j.delivery(), ackProgress) // the next tick tries again
	}
}

// drop empties the queue at the end of an epoch: the jobs come back. It returns the channel that closes when the loop has
// ended, nil if none runs.
func (s *session) drop() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.queue {
		s.p.h.release(j)
	}
	s.queue, s.calls = nil, 0
	s.p.h.deep.set(s.ref, 0)
	return s.quit
}

// countLocked counts the calls of the queue.
func (s *session) countLocked(j *job, by int) {
	if j.class() == fair.Call {
		s.calls += by
	}
	depth := len(s.queue)
	if s.calls == 0 {
		depth = 0
	}
	s.p.h.deep.set(s.ref, depth)
}

func (s *session) pop() *job {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 || s.p.over() {
		s.running = nil
		return nil
	}
	j := s.queue[0]
	s.queue = slices.Delete(s.queue, 0, 1)
	s.countLocked(j, -1)
	if len(s.queue) == 0 {
		s.queue = nil
	}
	j.mu.Lock()
	j.again = make(chan struct{}, 1)
	j.mu.Unlock()
	s.running = j
	return j
}

// retireLocked ends the loop while there is work: another one may start as soon as the locks are free.
func (s *session) retireLocked() {
	close(s.quit)
	s.asks, s.wake, s.quit, s.running = nil, nil, nil, nil
	s.turn = noTurn
	s.strip()
}

// rest ends the loop unless a job came meanwhile: another loop may start as soon as it returns. held is the turn that this one
// still has.
func (s *session) rest() (ended bool, held turn) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) > 0 && !s.p.over() {
		return false, noTurn
	}
	close(s.quit)
	s.rested = time.Now()
	s.busy, s.asks, s.wake, s.quit = false, nil, nil, nil
	held, s.turn = s.turn, noTurn
	if !s.known && s.p.sessions[s.ref] == s && !s.p.closing {
		s.p.forget(s.ref)
	}
	s.strip()
	return true, held
}

// strip drops what a session without work hardly needs: it is read again when it does. Which worker holds a large state is
// remembered, the state itself is not.
func (s *session) strip() {
	switch {
	case !s.known:
		return
	case len(s.record.State) > idleState:
		s.known, s.record, s.head = false, nil, nil
		return
	case s.record.Last == nil:
		return
	}
	s.record.Last, s.bare = nil, true
	if s.head != nil && s.head.Sequence <= s.record.LastSequence {
		s.head = nil
	}
}

// brokerPause is the wait between tries when the broker does not answer.
const brokerPause = time.Second

// loop runs the session's jobs, one at a time and in order, until the queue is empty, the epoch is over or it is parked.
func (s *session) loop() {
	if s.after != nil {
		s.outlast()
	}
	for {
		for j := s.pop(); j != nil; j = s.pop() {
			kind := s.turn
			if s.bring(j) { // parked: the session may have another loop by now
				s.p.h.turns.next(kind)
				return
			}
			s.resultsTaken() // one that is still missing is insisted on at its job's turn
			s.p.h.release(j)
			s.mu.Lock()
			s.wants, s.fresh = time.Now(), false // the next one is at the head from now on
			s.mu.Unlock()
			if s.p.h.turns.rotate(s) {
				return
			}
		}
		if ended, held := s.rest(); ended {
			s.p.h.turns.next(held)
			s.p.busy.Add(-1)
			s.p.wg.Done()
			return
		}
	}
}

// yield gives the loop's turn to a session that waits for one.
func (s *session) yield() {
	held := s.turn
	s.turn = noTurn
	s.p.h.turns.next(held)
}

// bring works on a job until it has its outcome, or is not this epoch's any more; or until it is parked.
func (s *session) bring(j *job) (isParked bool) {
	var held *snag // made when it is needed
	for s.p.ctx.Err() == nil {
		err := s.process(s.p.ctx, j)
		if err == nil || errors.Is(err, errParked) {
			return err != nil
		}
		s.known = false
		if errors.Is(err, errFenced) {
			s.p.end(stream.ErrNotMine)
			s.p.shut() // what came behind this job must not run before it
			return false
		}
		if errors.Is(err, errLeaving) {
			return false
		}
		switch {
		case errors.Is(err, errVoid):
			continue
		case errors.Is(err, jobs.ErrNewer):
			s.outwait(j, err)
		default:
			s.p.h.log.Warn("job_waits_for_broker", "session", s.ref.String(), "sequence", j.seq, "error", err)
			if held == nil {
				held = &snag{s: s, j: j, step: stepRecord}
				defer s.p.h.free(held)
			}
			s.p.h.stumble(held, err)
			wait(s.p.starts, nil, brokerPause)
		}
		if s.p.over() {
			return false // it comes again in the next epoch, whose head tells what has started
		}
	}
	s.known = false
	return false
}
