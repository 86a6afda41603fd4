package host_test

import (
	"context"
	"slices"
	"testing"

	"github.com/dspex/dspex/internal/fair"
	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/host/workers"
)

func TestARetryAfterWhatTheCodeRaisedAvoidsItsWorkerAndNoOtherRetryDoes(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		y.script(func(_ context.Context, c frame.CallBody) (frame.Frame, error, bool) {
			category, code := "python", c.Job
			if c.Job == "timeout" {
				category = "timeout"
			}
			return failure(category, code, true), nil, true
		})
		for job, avoided := range map[string]string{"user_error": "w/0", "lm_stream_broken": "", "timeout": ""} {
			for _, subject := range []string{"dspex.rpc.session.s", "dspex.rpc.anonymous"} {
				y.pool.mu.Lock()
				y.pool.wants = nil
				y.pool.mu.Unlock()
				y.call(subject, job, `{"command":"append","options":{"max_retries":1}}`)
				y.pool.mu.Lock()
				got := slices.Clone(y.pool.wants)
				for i := range got {
					got[i].Turn = fair.Key{} // of no interest here
				}
				y.pool.mu.Unlock()
				if want := []workers.Want{{}, {Avoid: avoided}}; !slices.Equal(got, want) {
					t.Errorf("%s to %s: %+v, want %+v", job, subject, got, want)
				}
			}
		}
	})
}
