package lifecycle

import (
	"fmt"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

// benchJob is delivered, run and acknowledged: everything that the core requests succeeds.
func benchJob(b *testing.B, r *runner, seq uint64) {
	b.Helper()
	body := []byte(`{"command": "predict", "args": {"n": 1}}`)
	j := &Job{Sequence: seq, Stored: r.broker(), Size: len(body), Data: body, Delivered: 1,
		Env: jobs.Envelope{Job: fmt.Sprintf("q%d", seq), Mode: jobs.ModeQueue, Type: jobs.JSON}}
	r.now = r.now.Add(time.Millisecond)
	r.step(Event{Kind: Delivered, Job: j})
	for !r.Quiet() {
		switch {
		case r.tokens:
			r.tokens = false
			r.step(Event{Kind: TokenGranted, Token: 1})
		case len(r.pending) > 0:
			r.serve(0, NoFault, false)
		case len(r.calls) > 0:
			for op := range r.calls {
				r.answer(op, Output{Value: []byte{0xc0}, State: []byte("state"), Version: r.calls[op].task.StateVersion + 1})
				break
			}
		default:
			b.Fatalf("%v waits for nothing", r.State())
		}
	}
	if !r.store.acked[seq] {
		b.Fatal("not acknowledged")
	}
	delete(r.store.acked, seq)
	delete(r.store.keys, "result "+j.Env.Job)
}

func BenchmarkSessionJob(b *testing.B) {
	b.ReportAllocs()
	r := session(config(), newStore(), begin, false)
	for n := range b.N {
		benchJob(b, r, uint64(n+1))
	}
}

func BenchmarkAnonymousJob(b *testing.B) {
	b.ReportAllocs()
	s := newStore()
	for n := range b.N {
		benchJob(b, anonymous(config(), s, begin, true), uint64(n+1))
	}
}
