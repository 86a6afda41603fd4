package host

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// Why the processing of a job stops without an outcome.
var (
	errFenced = errors.New("fenced: the partition belongs to another epoch")
	errVoid   = errors.New("void: the session's record moved on, read it again")
)

// session is one session during one epoch of its partition: its queue, and what is known of its record.
type session struct {
	p  *partition
	id string

	mu      sync.Mutex
	queue   []*job // by sequence
	running *job
	active  bool // loop runs

	// Owned by loop.
	known    bool // record and head were read
	record   *jobs.Record
	recRev   uint64
	head     *jobs.Head
	headRev  uint64
	loaded   time.Time // local clock
	loadedAt time.Time // broker's clock: jobs stored later cannot have a result
	lost     bool      // a state is known to be lost
	worker   uint64    // the worker that holds version
	version  uint64
}

// job is one delivered message.
type job struct {
	seq    uint64
	stored time.Time
	header map[string][]string
	size   int
	data   []byte // nil when over the payload budget

	mu    sync.Mutex
	msg   jetstream.Msg // the latest delivery
	again chan struct{} // a redelivery came
}

func (h *Host) newJob(m jetstream.Msg, meta *jetstream.MsgMetadata) *job {
	j := &job{seq: meta.Sequence.Stream, stored: meta.Timestamp, header: m.Headers(), msg: m, again: make(chan struct{}, 1), size: len(m.Data())}
	if h.held.Load()+int64(j.size) <= payloadBudget {
		h.held.Add(int64(j.size))
		j.data = m.Data()
	}
	return j
}

// body returns the payload, reading it again when it was not kept.
func (h *Host) body(ctx context.Context, j *job) ([]byte, error) {
	if j.data != nil || j.size == 0 {
		return j.data, nil
	}
	m, err := stream.GetSequence(ctx, h.nc, stream.Jobs, j.seq)
	return m.Data, err
}

func (j *job) delivery() jetstream.Msg {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.msg
}

// add files a delivery and reports whether the caller must start the loop. Repeats of what is queued or running are dropped.
func (s *session) add(j *job) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != nil && s.running.seq == j.seq {
		s.running.redelivered(j.msg)
		s.p.h.release(j)
		return false
	}
	i, found := slices.BinarySearchFunc(s.queue, j.seq, func(q *job, seq uint64) int {
		switch {
		case q.seq < seq:
			return -1
		case q.seq > seq:
			return 1
		}
		return 0
	})
	if found {
		s.queue[i].redelivered(j.msg)
		s.p.h.release(j)
		return false
	}
	s.queue = slices.Insert(s.queue, i, j)
	start := !s.active
	s.active = true
	return start
}

func (j *job) redelivered(m jetstream.Msg) {
	j.mu.Lock()
	j.msg = m
	j.mu.Unlock()
	select {
	case j.again <- struct{}{}:
	default:
	}
}

func (h *Host) release(j *job) {
	if j.data != nil {
		h.held.Add(-int64(j.size))
		j.data = nil
	}
}

func (s *session) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.active
}

func (s *session) inProgress() {
	s.mu.Lock()
	j := s.running
	s.mu.Unlock()
	if j != nil {
		_ = j.delivery().InProgress() // the next tick tries again
	}
}

// drop empties the queue at the end of an epoch: the jobs come back to the next owner.
func (s *session) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.queue {
		s.p.h.release(j)
	}
	s.queue = nil
}

func (s *session) pop() *job {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		s.running, s.active = nil, false
		return nil
	}
	s.running = s.queue[0]
	s.queue = slices.Delete(s.queue, 0, 1)
	return s.running
}

// brokerPause is the wait between tries when the broker does not answer.
const brokerPause = time.Second

// loop runs the session's jobs, one at a time and in order, until the queue is empty or the epoch is over.
func (s *session) loop() {
	for j := s.pop(); j != nil; j = s.pop() {
		for {
			err := s.process(s.p.ctx, j)
			if err == nil {
				break
			}
			s.known = false
			if s.p.ctx.Err() != nil || errors.Is(err, errFenced) {
				s.p.h.release(j)
				s.drop()
				break
			}
			if !errors.Is(err, errVoid) {
				s.p.h.log.Warn("job_waits_for_broker", "session", s.id, "sequence", j.seq, "error", err)
				wait(s.p.ctx, nil, brokerPause)
			}
		}
		s.p.h.release(j)
	}
}

// load reads record and head from the stream's leader.
func (s *session) load(ctx context.Context) error {
	h := s.p.h
	before := h.now()
	rec, err := h.records.Get(ctx, jobs.RecordKey(s.id))
	if err != nil {
		return err
	}
	head, err := h.records.Get(ctx, jobs.HeadKey(s.id))
	if err != nil {
		return err
	}
	s.recRev, s.headRev = rec.Revision, head.Revision
	s.head, s.lost = nil, false
	if s.record, err = readRecord(rec); err != nil {
		return err
	}
	if head.Exists {
		if s.head, err = jobs.ParseHead(head.Value); err != nil {
			return err
		}
	}
	if s.record == nil {
		s.record = &jobs.Record{Created: before}
	} else if before.Sub(s.record.Updated) > h.cfg.SessionIdle {
		s.lost = s.record.StateVersion > 0
		s.record.State, s.record.StateVersion, s.record.LM = nil, 0, nil
		s.record.Generation++
	}
	if s.record.Stream != h.streamID { // sequences of another stream count nothing
		s.record.Stream, s.record.LastSequence, s.record.Ended, s.record.Last = h.streamID, 0, nil, nil
	}
	s.known, s.loaded, s.loadedAt = true, time.Now(), before
	return nil
}

func readRecord(e stream.Entry) (*jobs.Record, error) {
	if !e.Exists {
		return nil, nil
	}
	return jobs.ParseRecord(e.Value)
}

// ttl is how long record and head live after a write.
func (s *session) ttl(longest time.Duration) time.Duration {
	return s.p.h.cfg.SessionIdle + max(longest, time.Hour)
}
