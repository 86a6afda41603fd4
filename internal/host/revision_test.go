package host_test

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// records is the bucket of session records.
func (y *system) records(t *testing.T) jetstream.KeyValue {
	t.Helper()
	js, err := jetstream.New(y.nc)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), stream.Sessions)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func TestACommitDoesNotOverwriteARecordThatAnotherHasWritten(t *testing.T) {
	y := start(t, t.TempDir())
	if r := y.call("dspex.rpc.session.s", "first", `{"command":"append"}`); !r.OK {
		t.Fatalf("%+v", r)
	}
	kv := y.records(t)
	read := func() *jobs.Record {
		e, err := kv.Get(t.Context(), named("s").RecordKey())
		if err != nil {
			t.Fatal(err)
		}
		rec, err := jobs.ParseRecord(e.Value())
		if err != nil {
			t.Fatal(err)
		}
		return rec
	}
	before := read().StateVersion
	y.pool.mu.Lock()
	y.pool.hook = func(_ context.Context, c frame.CallBody) (frame.Frame, error, bool) {
		if rec := read(); c.Job == "second" && rec.StateVersion == before {
			rec.StateVersion += 10
			if _, err := kv.Put(t.Context(), named("s").RecordKey(), rec.Append(nil)); err != nil {
				t.Error(err)
			}
		}
		return frame.Frame{}, nil, false
	}
	y.pool.mu.Unlock()
	ran := y.pool.runs.Load()
	if r := y.call("dspex.rpc.session.s", "second", `{"command":"append"}`); !r.OK {
		t.Errorf("%+v", r)
	}
	if n := y.pool.runs.Load() - ran; n != 2 {
		t.Errorf("it must run again on what the other has written, ran %d times", n)
	}
	if after := read().StateVersion; after <= before+10 {
		t.Errorf("the version of the state must be above %d, got %d", before+10, after)
	}
}

func TestARetryDoesNotOverwriteTheAttemptsOfAnotherEpoch(t *testing.T) {
	y := start(t, t.TempDir())
	kv, key := y.records(t), named("s").AttemptRecordKey()
	const others = 5
	y.pool.mu.Lock()
	y.pool.hook = func(context.Context, frame.CallBody) (frame.Frame, error, bool) {
		e, err := kv.Get(t.Context(), key)
		if err != nil {
			t.Error(err)
			return frame.Frame{}, nil, false
		}
		noted, err := jobs.ParseAttemptRecord(e.Value())
		if err != nil || noted.Attempt > 1 {
			return frame.Frame{}, err, err != nil
		}
		noted.Epoch, noted.Attempt = noted.Epoch+1000, others
		if _, err := kv.Put(t.Context(), key, noted.Append(nil)); err != nil {
			t.Error(err)
		}
		return failure("connection", "lost", true), nil, true
	}
	y.pool.mu.Unlock()
	r := y.call("dspex.rpc.session.s", "job", `{"command":"append","options":{"max_retries":9,"backoff":[0]}}`)
	if !r.OK {
		t.Errorf("%+v", r)
	}
	if r.Attempt != others+1 {
		t.Errorf("the attempt behind the other's %d must be %d, got %d", others, others+1, r.Attempt)
	}
}
