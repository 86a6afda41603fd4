package dspex

import (
	"testing"
	"time"

	"github.com/dspex/dspex/internal/contract"
)

func TestTheBoundOfACallIsWhatTheJobMayTake(t *testing.T) {
	for name, c := range map[string]struct {
		opts []CallOption
		want time.Duration
	}{
		"defaults":     {nil, 6*30*time.Second + 5*time.Second + 3100*time.Millisecond},
		"no retries":   {[]CallOption{WithMaxRetries(0)}, 35 * time.Second},
		"linear":       {[]CallOption{WithMaxRetries(3), WithTimeout(time.Second), WithBackoff(Linear())}, 9*time.Second + 600*time.Millisecond},
		"list":         {[]CallOption{WithMaxRetries(3), WithTimeout(time.Second), WithBackoff(Delays(time.Second, 2*time.Second))}, 14 * time.Second},
		"capped delay": {[]CallOption{WithMaxRetries(20), WithTimeout(time.Millisecond)}, 21*time.Millisecond + 5*time.Second + 51100*time.Millisecond + 11*30*time.Second},
		"own cap":      {[]CallOption{WithMaxRetries(4), WithTimeout(time.Second), WithBackoffCap(300 * time.Millisecond)}, 10*time.Second + 900*time.Millisecond},
		"jitter":       {[]CallOption{WithMaxRetries(2), WithTimeout(time.Second), WithJitter(0.25)}, 8*time.Second + 375*time.Millisecond},
		"deadline":     {[]CallOption{WithDeadline(time.Minute), WithTimeout(time.Hour)}, time.Minute},
		"a day":        {[]CallOption{WithTimeout(24 * time.Hour)}, 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := newCall("s", "predict", nil, c.opts)
			if err != nil {
				t.Fatal(err)
			}
			if got := r.total(); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestABackoffFunctionIsEvaluatedOnceForEachRetry(t *testing.T) {
	var asked []int
	f := BackoffFunc(func(attempt int) time.Duration { asked = append(asked, attempt); return time.Millisecond })
	if _, err := newCall("s", "predict", nil, []CallOption{WithBackoff(f), WithMaxRetries(2)}); err != nil || len(asked) != 2 || asked[0] != 1 {
		t.Errorf("asked %v, %v", asked, err)
	}
	asked = nil
	if _, err := newCall("s", "predict", nil, []CallOption{WithBackoff(f)}); err != nil || len(asked) != contract.MostGrantedRetries {
		t.Errorf("without max_retries asked %v, %v", asked, err)
	}
	if _, err := newCall("s", "predict", nil, []CallOption{WithBackoff(f), WithMaxRetries(0)}); err != nil {
		t.Errorf("no retries, no delays: %v", err)
	}
}
