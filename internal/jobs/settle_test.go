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
		"exponential, capped":    {crash(), Policy{MaxRetries: new(5), Cap: 300 * time.Millisecond}, ms(100, 200, 300, 300, 300)},
		"a list, capped":         {crash(), Policy{MaxRetries: new(3), Backoff: Delays(ms(10, 500)...), Cap: 20 * time.Millisecond}, ms(10, 20, 20)},
		"30 s at most":           {crash(), Policy{MaxRetries: new(11)}, ms(100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000)},
		"connection":             {crash(), Policy{}, ms(100, 200, 400, 800, 1600)},
		"initialization":         {Errorf(Initialization, "x", "x").Again(), Policy{}, ms(100, 200, 400)},
		"session":                {Errorf(Session, "x", "x").Again(), Policy{}, ms(100, 200, 300)},
		"python":                 {Errorf(Python, "x", "x").Again(), Policy{}, ms(100, 200)},
		"resource_error":         {Errorf(Resource, "x", "x").Again(), Policy{}, nil},
		"LM 5xx":                 {Errorf(Resource, CodeLMServer, "x").Again(), Policy{}, ms(100, 200, 400)},
		"only a backoff":         {crash(), Policy{Backoff: Linear()}, ms(100, 200, 300, 400, 500)},
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
				if want := map[bool]Action{true: ToDeadLetter, false: Fail}[c.err.Retryable]; v.Action != want {
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
	if v := Settle(crash(), 1, Policy{}, 99*time.Millisecond, true, nil); v.Action != ToDeadLetter {
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
		d := Settle(crash(), 1, Policy{Jitter: 0.25, MaxRetries: new(20)}, 0, false, rnd.Float64).Delay
		seen[d] = true
		if d < 75*time.Millisecond || d > 125*time.Millisecond {
			t.Fatalf("delay %v", d)
		}
		if d := Settle(crash(), 20, Policy{Jitter: 0.25, MaxRetries: new(20)}, 0, false, rnd.Float64).Delay; d > BackoffCap {
			t.Fatalf("delay %v over the cap", d)
		}
		if d := Settle(crash(), 3, Policy{Jitter: 0.25, MaxRetries: new(20), Cap: 310 * time.Millisecond}, 0, false, rnd.Float64).Delay; d < 300*time.Millisecond || d > 310*time.Millisecond {
			t.Fatalf("delay %v over the job's own cap", d)
		}
	}
	if len(seen) < 100 {
		t.Error("no jitter")
	}
}
