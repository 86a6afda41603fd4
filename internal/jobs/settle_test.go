package jobs

import (
	"math/rand/v2"
	"testing"
	"time"
)

func ms(n ...int) (d []time.Duration) {
	for _, v := range n {
		d = append(d, time.Duration(v)*time.Millisecond)
	}
	return d
}

func TestTheManualsRetrySequences(t *testing.T) {
	for name, c := range map[string]struct {
		err    *Error
		policy Policy
		want   []time.Duration
	}{
		"linear 3":               {crash(), Policy{MaxRetries: new(3), Backoff: Linear()}, ms(100, 200, 300)},
		"exponential 5":          {crash(), Policy{MaxRetries: new(5), Backoff: Exponential()}, ms(100, 200, 400, 800, 1600)},
		"function attempt * 150": {crash(), Policy{MaxRetries: new(3), Backoff: Delays(ms(150, 300, 450)...)}, ms(150, 300, 450)},
		"unset is exponential":   {crash(), Policy{MaxRetries: new(2)}, ms(100, 200)},
		"communication":          {Errorf(Communication, "x", "x").Again(), Policy{}, ms(0, 100, 200)},
		"health_check":           {Errorf(HealthCheck, "x", "x").Again(), Policy{}, ms(100, 200, 300)},
		"timeout":                {Errorf(Timeout, "x", "x").Again(), Policy{}, ms(100, 200)},
		"system_error":           {Errorf(System, "x", "x").Again(), Policy{}, nil},
		"LM 429":                 {Errorf(Resource, CodeLMRateLimit, "x").Again(), Policy{}, ms(100, 200, 400)},
		"zero":                   {crash(), Policy{MaxRetries: new(0)}, nil},
		"deterministic":          {Errorf(Python, "x", "x"), Policy{MaxRetries: new(9)}, nil},
	} {
		var got []time.Duration
		for attempt := 1; ; attempt++ {
			v := Settle(c.err, attempt, c.policy, 0, false, nil)
			if v.Action != Retry {
				if want := map[bool]Action{true: Bury, false: Fail}[c.err.Retryable]; v.Action != want {
					t.Errorf("%s: ends with %v, want %v", name, v.Action, want)
				}
				break
			}
			got = append(got, v.Delay)
		}
		if len(got) != len(c.want) {
			t.Errorf("%s: delays %v, want %v", name, got, c.want)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%s: delays %v, want %v", name, got, c.want)
			}
		}
	}
}

func crash() *Error { return Errorf(Connection, CodeWorkerDied, "x").Again() }

func TestTheProvidersLongerRetryAfterWinsWithinItsCap(t *testing.T) {
	e := Errorf(Resource, CodeLMRateLimit, "x").Again()
	e.RetryAfter = 5 * time.Second
	if v := Settle(e, 1, Policy{}, 0, false, nil); v.Delay != 5*time.Second {
		t.Errorf("delay %v", v.Delay)
	}
	e.RetryAfter = 48 * time.Hour
	if v := Settle(e, 1, Policy{}, 0, false, nil); v.Delay != RetryAfterCap {
		t.Errorf("delay %v", v.Delay)
	}
}

func TestNoRetryIsPlannedPastTheDeadline(t *testing.T) {
	if v := Settle(crash(), 1, Policy{}, 99*time.Millisecond, true, nil); v.Action != Bury {
		t.Errorf("action %v", v.Action)
	}
	if v := Settle(crash(), 1, Policy{}, 101*time.Millisecond, true, nil); v.Action != Retry {
		t.Errorf("action %v", v.Action)
	}
}

func TestJitterStaysWithinItsShareAndTheCap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	seen := map[time.Duration]bool{}
	for range 200 {
		d := Settle(crash(), 1, Policy{Jitter: 0.25, MaxRetries: new(20)}, 0, false, rnd).Delay
		seen[d] = true
		if d < 75*time.Millisecond || d > 125*time.Millisecond {
			t.Fatalf("delay %v", d)
		}
		if d := Settle(crash(), 20, Policy{Jitter: 0.25, MaxRetries: new(20)}, 0, false, rnd).Delay; d > BackoffCap {
			t.Fatalf("delay %v over the cap", d)
		}
	}
	if len(seen) < 100 {
		t.Error("no jitter")
	}
}
