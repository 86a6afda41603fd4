package jobs

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/dspex/dspex/internal/wire"
)

// Kind is a job's terminal outcome.
type Kind string

// The outcomes. Every accepted job reaches exactly one.
const (
	Succeeded Kind = "succeeded"
	Failed    Kind = "failed"
	Cancelled Kind = "cancelled"
	Expired   Kind = "expired"
)

// valid reports whether a component writes it.
func (k Kind) valid() bool {
	return k == Succeeded || k == Failed || k == Cancelled || k == Expired
}

// Outcome is a decided job as its session record keeps it: enough to finish the job again after a crash.
type Outcome struct {
	Job          string
	Sequence     uint64
	Epoch        uint64
	Attempt      int
	Hash         [sha256.Size]byte
	Kind         Kind
	Mode         Mode
	DeadLettered bool
	ReplyTo      string
	Type         string    // content type of the reply
	Body         []byte    // reply, MessagePack
	Failures     []Failure // of a dead-lettered job: its dead letter can be written again
	Trace        string    // id of the job's trace, "" if it has none
}

// Result is the outcome as the store of results keeps it.
func (o *Outcome) Result(session string, stored time.Time) *Result {
	return &Result{Session: session, Job: o.Job, Sequence: o.Sequence, Attempt: o.Attempt, Hash: o.Hash, Kind: o.Kind, Body: o.Body, Stored: stored, Trace: o.Trace}
}

// Record is the durable state of a session (key s.<session>). One compare-and-set writes state, last sequence and outcome.
type Record struct {
	Stream       int64  // identity of the stream that LastSequence counts in
	Generation   uint64 // a cleanup begins a new one
	LastSequence uint64
	Ended        map[uint64]Kind // early ends: cancelled or expired before their turn
	State        []byte          // the worker's, opaque
	StateVersion uint64
	LM           []byte // the session's LM choice, MessagePack map, or nil
	Created      time.Time
	Updated      time.Time
	Jobs         uint64
	Host         string
	Worker       string
	Last         *Outcome
}

// Outlived reports whether the result of the last outcome would have expired by now.
func (r *Record) Outlived(now time.Time) bool { return now.Sub(r.Updated) >= ResultTTL(r.Last.Mode) }

// fixedBytes is room for what is not of the client's making.
const fixedBytes = 256

// Append writes the stored form.
func (r *Record) Append(dst []byte) []byte {
	size := fixedBytes + len(r.State) + len(r.LM)
	if r.Last != nil {
		size += fixedBytes + len(r.Last.Body)
	}
	dst = slices.Grow(dst, size)
	dst = wire.AppendArray(dst, 14)
	dst = wire.AppendUint(dst, RecordVersion)
	dst = wire.AppendInt(dst, r.Stream)
	dst = wire.AppendUint(dst, r.Generation)
	dst = wire.AppendUint(dst, r.LastSequence)
	seqs := make([]uint64, 0, len(r.Ended))
	for seq := range r.Ended {
		seqs = append(seqs, seq)
	}
	slices.Sort(seqs)
	dst = wire.AppendArray(dst, 2*len(seqs))
	for _, seq := range seqs {
		dst = wire.AppendStr(wire.AppendUint(dst, seq), string(r.Ended[seq]))
	}
	dst = appendBin(dst, r.State)
	dst = wire.AppendUint(dst, r.StateVersion)
	dst = appendBin(dst, r.LM)
	dst = wire.AppendInt(dst, r.Created.UnixMilli())
	dst = wire.AppendInt(dst, r.Updated.UnixMilli())
	dst = wire.AppendUint(dst, r.Jobs)
	dst = wire.AppendStr(dst, r.Host)
	dst = wire.AppendStr(dst, r.Worker)
	if r.Last == nil {
		return wire.AppendNil(dst)
	}
	return r.Last.append(dst)
}

func (o *Outcome) append(dst []byte) []byte {
	dst = wire.AppendArray(dst, 13+traced(o.Trace))
	dst = wire.AppendStr(dst, o.Job)
	dst = wire.AppendUint(dst, o.Sequence)
	dst = wire.AppendUint(dst, o.Epoch)
	dst = wire.AppendUint(dst, uint64(o.Attempt))
	dst = wire.AppendBin(dst, o.Hash[:])
	dst = wire.AppendStr(dst, string(o.Kind))
	dst = wire.AppendStr(dst, string(o.Mode))
	dst = wire.AppendBool(dst, o.DeadLettered)
	dst = wire.AppendStr(dst, o.ReplyTo)
	dst = wire.AppendStr(dst, o.Type)
	dst = wire.AppendBin(dst, o.Body)
	return appendTrace(appendHistoryMore(appendHistory(dst, o.Failures), o.Failures), o.Trace)
}

// traced is how many fields a trace takes.
func traced(id string) int {
	if id == "" {
		return 0
	}
	return 1
}

func appendTrace(dst []byte, id string) []byte {
	if id == "" {
		return dst
	}
	return wire.AppendStr(dst, id)
}

// ParseRecord reads the stored form; ErrNewer when a newer version wrote it.
func ParseRecord(b []byte) (*Record, error) {
	in, n, err := open(b, 14)
	if err != nil {
		return nil, fmt.Errorf("session record: %w", err)
	}
	r := &Record{}
	r.Stream, r.Generation, r.LastSequence = in.int(), in.uint(), in.uint()
	if pairs := in.array(); pairs > 0 {
		r.Ended = make(map[uint64]Kind, pairs/2)
		for range pairs / 2 {
			seq := in.uint()
			r.Ended[seq] = in.kind()
		}
	}
	r.State, r.StateVersion, r.LM = in.bin(), in.uint(), in.bin()
	r.Created, r.Updated = time.UnixMilli(in.int()), time.UnixMilli(in.int())
	r.Jobs, r.Host, r.Worker = in.uint(), in.str(), in.str()
	if !in.Nil() {
		r.Last = in.outcome()
	}
	if err := in.close(n - 14); err != nil {
		return nil, fmt.Errorf("session record: %w", err)
	}
	return r, nil
}

// AttemptRecord is the small record of the attempt that runs (key h.<session>), written before each start. An anonymous job has one
// (key t.<job>) once an attempt has failed.
type AttemptRecord struct {
	Stream    int64
	Epoch     uint64
	Sequence  uint64
	Attempt   int
	NotBefore time.Time // a retry waits until then; zero while an attempt runs
	Delay     time.Duration
	Failures  []Failure
	Delivered int // of an anonymous job: deliveries that the attempts account for
}

// Same reports whether both are of one attempt, or of the wait for the one after it.
func (h *AttemptRecord) Same(o *AttemptRecord) bool {
	return h.Epoch == o.Epoch && h.Sequence == o.Sequence && h.Attempt == o.Attempt && h.NotBefore.IsZero() == o.NotBefore.IsZero()
}

// Append writes the stored form.
func (h *AttemptRecord) Append(dst []byte) []byte {
	dst = slices.Grow(dst, fixedBytes/4)
	dst = wire.AppendArray(dst, 10)
	dst = wire.AppendUint(dst, RecordVersion)
	dst = wire.AppendInt(dst, h.Stream)
	dst = wire.AppendUint(dst, h.Epoch)
	dst = wire.AppendUint(dst, h.Sequence)
	dst = wire.AppendUint(dst, uint64(h.Attempt))
	notBefore := h.NotBefore
	if !notBefore.IsZero() {
		notBefore = notBefore.Add(time.Millisecond - 1) // rounded up: no retry is early
	}
	dst = wire.AppendInt(dst, millis(notBefore))
	dst = wire.AppendInt(dst, h.Delay.Milliseconds())
	dst = appendHistoryMore(appendHistory(dst, h.Failures), h.Failures)
	return wire.AppendUint(dst, uint64(h.Delivered))
}

// ParseAttemptRecord reads the stored form.
func ParseAttemptRecord(b []byte) (*AttemptRecord, error) {
	in, n, err := open(b, 8)
	if err != nil {
		return nil, fmt.Errorf("attempt record: %w", err)
	}
	h := &AttemptRecord{Stream: in.int(), Epoch: in.uint(), Sequence: in.uint(), Attempt: in.attempt()}
	h.NotBefore = fromMillis(in.int())
	h.Delay = in.delay()
	h.Failures = in.history()
	extra := n - 8
	if n >= 10 { // earlier versions had neither
		in.historyMore(h.Failures)
		h.Delivered = int(in.uint())
		extra -= 2
	}
	if err := in.close(extra); err != nil {
		return nil, fmt.Errorf("attempt record: %w", err)
	}
	return h, nil
}

// Result is a job's outcome in the bucket of results: the first write wins.
type Result struct {
	Session  string
	Job      string
	Sequence uint64
	Attempt  int
	Hash     [sha256.Size]byte
	Kind     Kind
	Body     []byte // reply, MessagePack
	Stored   time.Time
	Trace    string // id of the job's trace, "" if it has none
}

// Append writes the stored form.
func (r *Result) Append(dst []byte) []byte {
	dst = slices.Grow(dst, fixedBytes+len(r.Body))
	dst = wire.AppendArray(dst, 9+traced(r.Trace))
	dst = wire.AppendUint(dst, RecordVersion)
	dst = wire.AppendStr(dst, r.Session)
	dst = wire.AppendStr(dst, r.Job)
	dst = wire.AppendUint(dst, r.Sequence)
	dst = wire.AppendUint(dst, uint64(r.Attempt))
	dst = wire.AppendBin(dst, r.Hash[:])
	dst = wire.AppendStr(dst, string(r.Kind))
	dst = wire.AppendBin(dst, r.Body)
	return appendTrace(wire.AppendInt(dst, r.Stored.UnixMilli()), r.Trace)
}

// ParseResult reads the stored form.
func ParseResult(b []byte) (*Result, error) {
	in, n, err := open(b, 9)
	if err != nil {
		return nil, fmt.Errorf("result: %w", err)
	}
	r := &Result{Session: in.str(), Job: in.str(), Sequence: in.uint(), Attempt: in.attempt()}
	r.Hash = in.hash()
	r.Kind, r.Body = in.kind(), in.body()
	r.Stored = time.UnixMilli(in.int())
	extra := n - 9
	if extra > 0 {
		r.Trace = in.str()
		extra--
	}
	if err := in.close(extra); err != nil {
		return nil, fmt.Errorf("result: %w", err)
	}
	return r, nil
}

func (in *fields) outcome() *Outcome {
	n := in.array()
	o := &Outcome{Job: in.str(), Sequence: in.uint(), Epoch: in.uint(), Attempt: in.attempt()}
	o.Hash = in.hash()
	o.Kind, o.Mode, o.DeadLettered = in.kind(), Mode(in.str()), in.boolean()
	o.ReplyTo, o.Type, o.Body = in.str(), in.str(), in.body()
	if n >= 13 { // earlier versions kept no history here
		o.Failures = in.history()
		in.historyMore(o.Failures)
		n -= 2
	}
	if n > 11 { // what is traced
		o.Trace = in.str()
		n--
	}
	for range n - 11 {
		in.keep(in.Skip())
	}
	return o
}

// Readers of what only some values are ours of. What is not is an error, as what cannot be read.

func (in *fields) kind() Kind {
	k := Kind(in.str())
	if in.err == nil && !k.valid() {
		in.err = fmt.Errorf("outcome %q: expected succeeded, failed, cancelled or expired", Clip(string(k)))
	}
	return k
}
