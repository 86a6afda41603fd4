package backup

import (
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server/archive"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// fit makes the copies fit together: records count in the streams that are made, and no outcome is newer than the record of its session.
type fit struct {
	was     map[string]int64 // stream -> identity
	now     map[int64]int64  // identity -> the new one
	records time.Time        // when the copy of the records began
	known   map[string]known // session's record, by its key without "s."
}

// known is what a record contains of its session's jobs.
type known struct {
	counts bool // in the stream of the backup
	last   uint64
	ended  map[uint64]jobs.Kind
}

func newFit(m *Manifest) *fit {
	f := &fit{was: map[string]int64{}, now: map[int64]int64{}, known: map[string]known{}}
	for _, o := range m.Objects {
		f.was[o.Name] = o.identity()
		if o.Name == stream.RecordsStream {
			f.records = o.Began
		}
	}
	return f
}

func (f *fit) made(name string, identity int64) { f.now[f.was[name]] = identity }

// Keys of the records and of the outcomes.
const (
	recordSubject  = "$KV." + stream.Sessions + ".s."
	headSubject    = "$KV." + stream.Sessions + ".h."
	attemptSubject = "$KV." + stream.Results + ".t."
	outcomeSubject = "$KV." + stream.Results + ".r.s."
)

// fit returns what becomes of a message, and whether it is kept. Markers of what was deleted have no body, and stay.
func (f *fit) fit(name string, h *archive.Header, data []byte) ([]byte, bool, error) {
	switch {
	case len(data) == 0:
		if key, is := strings.CutPrefix(h.Name, recordSubject); is {
			delete(f.known, key)
		}
		return data, true, nil
	case name == stream.RecordsStream && strings.HasPrefix(h.Name, recordSubject):
		return f.record(strings.TrimPrefix(h.Name, recordSubject), data)
	case strings.HasPrefix(h.Name, headSubject), strings.HasPrefix(h.Name, attemptSubject):
		head, err := jobs.ParseAttemptRecord(data)
		if err != nil {
			return nil, false, err
		}
		if identity, ok := f.now[head.Stream]; ok {
			head.Stream = identity
		}
		return head.Append(nil), true, nil
	case strings.HasPrefix(h.Name, outcomeSubject):
		keep, err := f.outcome(strings.TrimPrefix(h.Name, outcomeSubject), time.Unix(0, h.Timestamp), data)
		return data, keep, err
	}
	return data, true, nil
}

func (f *fit) record(key string, data []byte) ([]byte, bool, error) {
	r, err := jobs.ParseRecord(data)
	if err != nil {
		return nil, false, err
	}
	f.known[key] = known{counts: r.Stream == f.was[stream.Jobs], last: r.LastSequence, ended: r.Ended}
	if identity, ok := f.now[r.Stream]; ok {
		r.Stream = identity
	}
	return r.Append(nil), true, nil
}

// outcome reports whether an outcome is kept. One from before the copy of the records is: its record was written before it. A later
// one is kept if the record refers to it.
func (f *fit) outcome(key string, written time.Time, data []byte) (bool, error) {
	r, err := jobs.ParseResult(data)
	if err != nil {
		return false, err
	}
	if written.Before(f.records) {
		return true, nil
	}
	k, ok := f.known[key[:max(strings.LastIndexByte(key, '.'), 0)]]
	_, early := k.ended[r.Sequence]
	return ok && k.counts && (r.Sequence <= k.last || early), nil
}
