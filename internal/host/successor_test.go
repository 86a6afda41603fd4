package host_test

import (
	"bytes"
	"context"
	"maps"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// record reads a session's record.
func (y *system) record(session string) *jobs.Record {
	y.t.Helper()
	m, err := stream.GetLast(context.Background(), y.nc, "KV_"+stream.Sessions, "$KV."+stream.Sessions+".s."+session)
	if err != nil {
		y.t.Fatal(err)
	}
	r, err := jobs.ParseRecord(m.Data)
	if err != nil {
		y.t.Fatal(err)
	}
	return r
}

// endsEarly writes an early end into a session's record, as whoever owns its partition does.
func (y *system) endsEarly(session string, seq uint64) {
	y.t.Helper()
	r := y.record(session)
	ended := maps.Clone(r.Ended)
	if ended == nil {
		ended = map[uint64]jobs.Kind{}
	}
	ended[seq] = jobs.Cancelled
	r.Ended = ended
	y.putRecord(session, r.Append(nil))
}

// assignmentOf is the key of the assignment of a session's partition, while one of its jobs waits.
func (y *system) assignmentOf(session string) string {
	y.t.Helper()
	m, err := stream.GetLast(context.Background(), y.nc, stream.Jobs, "dspex.p.*.default."+session+".*")
	if err != nil {
		y.t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.Split(m.Subject, ".")[2])
	if err != nil {
		y.t.Fatal(err)
	}
	return jobs.AssignmentKey(n)
}

func (y *system) assign(key, host string) {
	y.t.Helper()
	y.put(stream.Assign, key, stream.Owner{Host: host}.Bytes())
}

// A host whose acknowledgement of a commit is lost reads the record again and finds its own outcome, under the revision of a
// successor that has ended a later job early. The host may not write over that revision.
func TestAnOwnCommitUnderASuccessorsRevisionIsNotWrittenOver(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		var second uint64
		var key string
		var lose atomic.Bool
		spoil := func(b []byte) {
			if i := bytes.Index(b, []byte(`{"host":"successor"`)); i >= 0 {
				b[i] = 'x' // the host does not receive the assignment yet
			}
			if i := bytes.Index(b, []byte(`{"stream":"KV_dspex_sessions","seq":`)); i >= 0 && lose.CompareAndSwap(true, false) {
				b[i+bytes.IndexByte(b[i:], ',')+1] = 'x' // the acknowledgement is no JSON
				y.assign(key, "successor")
				y.endsEarly("s", second)
			}
		}
		y.script(func(context.Context, frame.CallBody) (frame.Frame, error, bool) {
			if second == 0 {
				second = y.publish("s", "two", `{}`)
				key = y.assignmentOf("s")
				lose.Store(true) // the next write is the commit
			}
			return frame.Frame{}, nil, false
		})
		y.line.spoil.Store(&spoil)
		y.publish("s", "one", `{}`)
		y.pass(20 * time.Second)
		if n := y.pool.runs.Load(); n != 1 {
			t.Errorf("%d runs", n)
		}
		if r := y.record("s"); r.LastSequence >= second || r.Ended[second] != jobs.Cancelled {
			t.Errorf("the record has last sequence %d and early ends %v", r.LastSequence, r.Ended)
		}
		y.line.spoil.Store(nil)
		y.assign(key, "h1")
		if e := y.end("s", "one"); e.Outcome != "succeeded" {
			t.Errorf("one: %+v", e)
		}
		if e := y.end("s", "two"); e.Outcome != "cancelled" {
			t.Errorf("two: %+v", e)
		}
	})
}

// An early end whose write seemed to fail can come to light while its job runs: the host reads the record again for the sake of
// another early end. The running job has that outcome and no other.
func TestAnEarlyEndThatComesToLightWhileItsJobRunsIsItsOutcome(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		y.publish("s", "before", `{}`)
		y.end("s", "before")
		g := y.gate("ended")
		seq := y.publish("s", "ended", `{}`)
		<-g.entered
		y.publish("s", "behind", `{}`)
		y.endsEarly("s", seq)
		for y.cancel("s", "behind") != "cancelled" {
			y.pass(time.Second)
		}
		close(g.open)
		if e := y.end("s", "ended"); e.Outcome != "cancelled" {
			t.Errorf("ended: %+v", e)
		}
		if r := y.call("dspex.rpc.session.s", "after", `{"command":"append"}`); string(r.Result) != `["before","after"]` {
			t.Errorf("the state: %s", r.Result)
		}
	})
}
