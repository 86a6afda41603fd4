package breaker

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/pflag"
	"pgregory.net/rapid"

	"github.com/dspex/dspex/internal/control"
)

// recorder keeps the events of a Set.
type recorder struct {
	events []string
	counts []int // of failures in a row, while closed
}

func (r *recorder) set(cfg Config) *Set {
	return NewSet(cfg, func(e Event) {
		if e.Change == Counted || e.Change == Cleared {
			r.counts = append(r.counts, e.Info.FailureCount)
			return
		}
		r.events = append(r.events, fmt.Sprintf("%s %s %d", e.Info.Name, e.Change, e.Info.FailureCount))
	})
}

func fail(t *testing.T, s *Set, times int) {
	t.Helper()
	for range times {
		end(t, s, Failure)
	}
}

func end(t *testing.T, s *Set, r Result) {
	t.Helper()
	p, refused := s.Enter("lm")
	if refused != nil {
		t.Fatalf("refused: %+v", refused)
	}
	p.End(r, "timeout/lm_timeout")
}

func TestTheManualsBreakerOpensAfter5FailuresWaits60sAndClosesAfter3Successes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen recorder
		s := seen.set(Config{})
		fail(t, s, 4)
		end(t, s, Success)
		fail(t, s, 4)
		end(t, s, Silent)
		if i := s.Infos()[0]; i.State != Closed || i.FailureCount != 4 {
			t.Fatalf("a success sets the count back, what says nothing does not: %+v", i)
		}
		fail(t, s, 1)
		_, refused := s.Enter("lm")
		switch {
		case refused == nil:
			t.Fatalf("refused must not be nil; after five failures: %+v", refused)
		case refused.State != Open:
			t.Fatalf("refused.State must be Open, got %v; after five failures: %+v", refused.State, refused)
		case refused.RetryAfter != time.Minute:
			t.Fatalf("refused.RetryAfter must be time.Minute, got %v; after five failures: %+v", refused.RetryAfter, refused)
		case refused.Failures != 5:
			t.Fatalf("refused.Failures must be 5, got %v; after five failures: %+v", refused.Failures, refused)
		case refused.Last.What != "timeout/lm_timeout":
			t.Fatalf(`refused.Last.What must be "timeout/lm_timeout", got %v; after five failures: %+v`, refused.Last.What, refused)
		}
		time.Sleep(59 * time.Second)
		if refused := s.Look("other", "", "lm"); refused == nil || refused.RetryAfter != time.Second {
			t.Fatalf("a second before its time: %+v", refused)
		}
		switch i := s.Infos()[0]; {
		case i.State != Open:
			t.Errorf("i.State must be Open, got %v; %+v", i.State, i)
		case i.TimeUntilRetry != 1000:
			t.Errorf("i.TimeUntilRetry must be 1000, got %v; %+v", i.TimeUntilRetry, i)
		case i.FailureCount != 5:
			t.Errorf("i.FailureCount must be 5, got %v; %+v", i.FailureCount, i)
		case i.Config.Timeout != 60_000:
			t.Errorf("i.Config.Timeout must be 60_000, got %v; %+v", i.Config.Timeout, i)
		}
		time.Sleep(time.Second + time.Nanosecond)
		for range 3 {
			end(t, s, Success)
		}
		if i := s.Infos()[0]; i.State != Closed || i.FailureCount != 0 || !i.LastStateChange.Equal(time.Now()) {
			t.Errorf("after three successes: %+v", i)
		}
		if want := "[lm opened 5 lm closed 0]"; fmt.Sprint(seen.events) != want {
			t.Errorf("events %v, expected %s", seen.events, want)
		}
	})
}

func TestOneFailedTrialReopensAndTheOthersSayNothingAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen recorder
		s := seen.set(Config{})
		fail(t, s, 5)
		time.Sleep(time.Minute + time.Nanosecond)
		var trials []*Permit
		for range Trials {
			p, refused := s.Enter("lm")
			if refused != nil {
				t.Fatalf("%+v", refused)
			}
			trials = append(trials, p)
		}
		_, refused := s.Enter("lm")
		if refused == nil || refused.State != HalfOpen {
			t.Fatalf("a fourth trial: %+v", refused)
		}
		if i := s.Infos()[0]; i.HalfOpenCount != 3 || i.SuccessCount != 0 {
			t.Errorf("%+v", i)
		}
		trials[0].End(Success, "")
		trials[1].End(Failure, "resource_error/lm_server_error")
		<-refused.Changed
		trials[2].End(Success, "")
		trials[1].End(Success, "") // the second word does not count
		switch i := s.Infos()[0]; {
		case i.State != Open:
			t.Errorf("i.State must be Open, got %v; %+v", i.State, i)
		case i.TimeUntilRetry != 60_000:
			t.Errorf("i.TimeUntilRetry must be 60_000, got %v; %+v", i.TimeUntilRetry, i)
		case i.LastFailure.What != "resource_error/lm_server_error":
			t.Errorf(`i.LastFailure.What must be "resource_error/lm_server_error", got %v; %+v`, i.LastFailure.What, i)
		case i.FailureCount != 5:
			t.Errorf("i.FailureCount must be 5, got %v; %+v", i.FailureCount, i)
		}
		if want := "[lm opened 5 lm reopened 5]"; fmt.Sprint(seen.events) != want {
			t.Errorf("events %v, expected %s", seen.events, want)
		}
	})
}

func TestNoMoreThanThreeTrialsRunAtOnceHoweverManyMustSucceed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(recorder).set(Config{SuccessThreshold: 5})
		fail(t, s, 5)
		time.Sleep(time.Minute + time.Nanosecond)
		for range Trials {
			if _, refused := s.Enter("lm"); refused != nil {
				t.Fatalf("%+v", refused)
			}
		}
		if _, refused := s.Enter("lm"); refused == nil {
			t.Error("a fourth one runs")
		}
	})
}

func TestATrialThatSaysNothingGivesItsPermitBackAndWakesWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(recorder).set(Config{SuccessThreshold: 2})
		fail(t, s, 5)
		time.Sleep(time.Minute + time.Nanosecond)
		first, _ := s.Enter("lm")
		second, _ := s.Enter("lm")
		for range 100 { // it never sticks
			_, refused := s.Enter("lm")
			if refused == nil {
				t.Fatal("a third trial where two successes close")
			}
			first.End(Silent, "")
			<-refused.Changed
			if first, refused = s.Enter("lm"); refused != nil {
				t.Fatalf("the permit did not come back: %+v", refused)
			}
		}
		first.End(Success, "")
		second.End(Success, "")
		if i := s.Infos()[0]; i.State != Closed {
			t.Errorf("%+v", i)
		}
	})
}

func TestWhatAnotherHostFoundOutCountsFromWhenItIsHeardOrForTheTimeThatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen recorder
		s := seen.set(Config{})
		running, _ := s.Enter("lm")
		s.SetOpen("lm", time.Minute, 7, &control.LastFailure{What: "connection/lm_connection"})
		running.End(Success, "")
		if i := s.Infos()[0]; i.State != Open || i.FailureCount != 7 || i.TimeUntilRetry != 60_000 {
			t.Fatalf("%+v", i)
		}
		s.SetOpen("lm", 10*time.Second, 7, nil)
		if i := s.Infos()[0]; i.TimeUntilRetry != 10_000 {
			t.Fatalf("%+v", i)
		}
		time.Sleep(10*time.Second + time.Nanosecond)
		end(t, s, Failure)
		if i := s.Infos()[0]; i.State != Open || i.TimeUntilRetry != 60_000 {
			t.Fatalf("reopened: %+v", i)
		}
		time.Sleep(59 * time.Second)
		if refused := s.Look("lm"); refused == nil || refused.State != Open {
			t.Fatalf("reopened it stays open for the whole time: %+v", refused)
		}
		s.SetOpen("lm", -time.Hour, 5, nil)
		time.Sleep(time.Millisecond)
		end(t, s, Success)
		waiting := s.Infos()[0]
		s.SetClosed("lm")
		s.SetClosed("never heard of")
		if i := s.Infos(); waiting.State != HalfOpen || len(i) != 1 || i[0].State != Closed {
			t.Errorf("%+v, then %+v", waiting, i)
		}
		if want := "[lm reopened 7]"; fmt.Sprint(seen.events) != want {
			t.Errorf("what is learnt is no event of this host: %v", seen.events)
		}
	})
}

func TestTheFailuresOfAllProcessesCountTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen recorder
		s := seen.set(Config{})
		running, _ := s.Enter("lm")
		fail(t, s, 1)
		s.SetFailures("lm", 3, &control.LastFailure{What: "elsewhere", At: time.Now().Add(time.Second)})
		if i := s.Infos()[0]; i.State != Closed || i.FailureCount != 3 || i.LastFailure.What != "elsewhere" {
			t.Errorf("%+v", i)
		}
		running.End(Failure, "here") // it was let through before
		if i := s.Infos()[0]; i.FailureCount != 4 {
			t.Errorf("%+v", i)
		}
		s.SetFailures("lm", 0, nil)
		fail(t, s, 1)
		end(t, s, Success)
		end(t, s, Success)
		if want := "[1 4 1 0]"; fmt.Sprint(seen.counts) != want || seen.events != nil {
			t.Errorf("a success is told only where there were failures: %v, expected %s; %v", seen.counts, want, seen.events)
		}
		s.SetFailures("lm", 7, nil)
		s.SetFailures("lm", 0, nil) // it is open
		if want := "[lm opened 7]"; fmt.Sprint(seen.events) != want {
			t.Errorf("events %v, expected %s", seen.events, want)
		}
		if i := s.Infos()[0]; i.State != Open {
			t.Errorf("%+v", i)
		}
	})
}

func TestAnAttemptThatIsRetriedFailsATrialAndSaysNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen recorder
		s := seen.set(Config{})
		for range 20 {
			end(t, s, Retried)
		}
		if i := s.Infos()[0]; i.State != Closed || i.FailureCount != 0 {
			t.Errorf("%+v", i)
		}
		fail(t, s, 5)
		time.Sleep(time.Minute + time.Nanosecond)
		end(t, s, Retried)
		if i := s.Infos()[0]; i.State != Open {
			t.Errorf("%+v", i)
		}
	})
}

func TestASetIsBoundedAndForgetsOnlyWhatANewOneEquals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(recorder).set(Config{})
		fail(t, s, 5)
		for n := range 3 * mostBreakers {
			p, _ := s.Enter(fmt.Sprint("model ", n))
			p.End(Success, "")
		}
		if n := len(s.Infos()); n != mostBreakers {
			t.Errorf("%d breakers", n)
		}
		if s.Look("lm") == nil {
			t.Error("an open breaker was forgotten")
		}
		for n := range mostBreakers {
			p, _ := s.Enter(fmt.Sprint("failing ", n))
			p.End(Failure, "")
		}
		p, refused := s.Enter("one too many")
		if p != nil || refused != nil {
			t.Error("with no room left it is let through")
		}
	})
}

func TestThresholdsOutOfRangeAreAllSaidAtOnce(t *testing.T) {
	err := Config{FailureThreshold: 0, SuccessThreshold: 1001, Timeout: 2 * time.Hour}.Check()
	want := "--breaker-failures must be 1 to 1000, got 0\n--breaker-successes must be 1 to 1000, got 1001\n--breaker-timeout must be more than 0 and at most 1h0m0s, got 2h0m0s"
	if err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
	var c Config
	c.Flags(pflag.NewFlagSet("", pflag.ContinueOnError))
	if c != (Config{}).WithDefaults() || c.Check() != nil {
		t.Errorf("%+v: %v", c, c.Check())
	}
}

func TestTwoHostsSeeTheWorseOfABreaker(t *testing.T) {
	early, late := &control.LastFailure{What: "a"}, &control.LastFailure{What: "b", At: time.Unix(9, 0)}
	half := Info{Name: "x", State: HalfOpen, SuccessCount: 1, HalfOpenCount: 2, LastFailure: early}
	for _, c := range []struct{ other, want Info }{
		{Info{Name: "x", State: Open, FailureCount: 5, TimeUntilRetry: 700}, Info{Name: "x", State: Open, FailureCount: 5, SuccessCount: 1, HalfOpenCount: 2, LastFailure: early, TimeUntilRetry: 700}},
		{Info{Name: "x", State: HalfOpen, HalfOpenCount: 1, SuccessCount: 2, LastFailure: late}, Info{Name: "x", State: HalfOpen, HalfOpenCount: 3, SuccessCount: 2, LastFailure: late}},
		{Info{Name: "x", State: Closed, FailureCount: 4, LastFailure: late}, Info{Name: "x", State: HalfOpen, FailureCount: 4, SuccessCount: 1, HalfOpenCount: 2, LastFailure: late}},
	} {
		for _, got := range []Info{half.Join(c.other), c.other.Join(half)} {
			if got != c.want {
				t.Errorf("%+v, expected %+v", got, c.want)
			}
		}
	}
}

// model is the breaker of docs/migration.md, "Circuit breakers".
type model struct {
	state               State
	failures, successes int
	openFor             time.Duration
	opened              time.Time
	age                 int
	passing             map[*Permit]int // -> age
}

func (m *model) see() {
	if m.state == Open && time.Since(m.opened) > m.openFor {
		m.to(HalfOpen)
	}
}

func (m *model) to(s State) {
	m.state, m.successes = s, 0
	m.age++
	if s == Closed {
		m.failures = 0
	}
}

func (m *model) open(d time.Duration) {
	m.to(Open)
	m.opened, m.openFor = time.Now(), d
}

func (m *model) trials() (n int) {
	for _, age := range m.passing {
		if age == m.age {
			n++
		}
	}
	return n
}

func (m *model) admits(cfg Config) bool {
	m.see()
	return m.state == Closed || m.state == HalfOpen && m.trials() < Trials && m.trials()+m.successes < cfg.SuccessThreshold
}

func (m *model) end(p *Permit, r Result, cfg Config) {
	m.see()
	age := m.passing[p]
	delete(m.passing, p)
	switch {
	case age != m.age || r == Silent:
	case r == Success && m.state == Closed:
		m.failures = 0
	case r == Success:
		if m.successes++; m.successes == cfg.SuccessThreshold {
			m.to(Closed)
		}
	case m.state == HalfOpen:
		m.open(cfg.Timeout)
	default:
		if m.failures++; m.failures == cfg.FailureThreshold {
			m.open(cfg.Timeout)
		}
	}
}

// walk takes a Set and the model through the same random life.
func walk(w *rapid.T) {
	cfg := Config{FailureThreshold: rapid.IntRange(1, 6).Draw(w, "failures"), SuccessThreshold: rapid.IntRange(1, 5).Draw(w, "successes"), Timeout: time.Minute}
	s := NewSet(cfg, func(Event) {})
	m := &model{state: Closed, passing: map[*Permit]int{}}
	var order []*Permit
	w.Repeat(map[string]func(*rapid.T){
		"enter": func(t *rapid.T) {
			admits := m.admits(cfg)
			p, refused := s.Enter("x")
			if (refused == nil) != admits {
				t.Fatalf("model %+v admits: %t, the breaker: %+v", m, admits, refused)
			}
			if p != nil {
				m.passing[p] = m.age
				order = append(order, p)
			}
		},
		"end": func(w *rapid.T) {
			if len(order) == 0 {
				w.Skip("nothing runs")
			}
			n := rapid.IntRange(0, len(order)-1).Draw(w, "which")
			r := rapid.SampledFrom([]Result{Silent, Success, Failure}).Draw(w, "result")
			m.end(order[n], r, cfg)
			order[n].End(r, "what")
			order = append(order[:n], order[n+1:]...)
		},
		"wait": func(t *rapid.T) {
			time.Sleep(time.Duration(rapid.Int64Range(1, 40_000).Draw(t, "ms")) * time.Millisecond)
		},
		"learn closed": func(*rapid.T) { s.SetClosed("x"); m.to(Closed) },
		"learn open": func(t *rapid.T) {
			left := time.Duration(rapid.Int64Range(1, 60).Draw(t, "left")) * time.Second
			s.SetOpen("x", left, 1, nil)
			m.open(left)
		},
		"": func(t *rapid.T) {
			m.see()
			for _, i := range s.Infos() {
				switch {
				case i.State != m.state:
					t.Fatalf("the state must be %v, got %v", m.state, i.State)
				case i.State == HalfOpen && (i.SuccessCount != m.successes || i.HalfOpenCount != m.trials()):
					t.Fatalf("half-open: successes and trials must be %d and %d, got %d and %d", m.successes, m.trials(), i.SuccessCount, i.HalfOpenCount)
				case i.State == Closed && i.FailureCount != m.failures:
					t.Fatalf("closed: failures must be %d, got %d", m.failures, i.FailureCount)
				}
			}
		},
	})
	for _, p := range order { // whatever became of what runs: after its time the breaker lets something through
		p.End(Silent, "")
	}
	time.Sleep(time.Minute + time.Millisecond)
	if refused := s.Look("x"); refused != nil {
		w.Fatalf("it sticks: %+v", refused)
	}
}

func TestABreakerBehavesAsItsModelAndNeverSticks(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var failed any // rapid ends a walk by a panic, which must not leave the bubble's goroutine
		synctest.Test(t, func(*testing.T) {
			defer func() { failed = recover() }()
			walk(r)
		})
		if failed != nil {
			panic(failed)
		}
	})
}

func TestOtherThresholdsCountFromTheNextFailureAndLeaveWhatIsOpenItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen recorder
		s := seen.set(Config{})
		fail(t, s, 3)
		s.Configure(Config{FailureThreshold: 4, SuccessThreshold: 1, Timeout: 10 * time.Second})
		if i := s.Infos()[0]; i.State != Closed || i.FailureCount != 3 {
			t.Errorf("other thresholds alone changed it: %+v", i)
		}
		fail(t, s, 1)
		if i := s.Infos()[0]; i.State != Open || i.TimeUntilRetry != 10_000 {
			t.Errorf("the fourth failure of four: %+v", i)
		}
		s.Configure(Config{FailureThreshold: 4, SuccessThreshold: 3, Timeout: time.Minute})
		time.Sleep(10*time.Second + time.Nanosecond)
		end(t, s, Success)
		if i := s.Infos()[0]; i.State != Closed {
			t.Errorf("it opened when one success closed it: %+v", i)
		}
		fail(t, s, 4)
		if i := s.Infos()[0]; i.State != Open || i.TimeUntilRetry != 60_000 {
			t.Errorf("opened again: %+v", i)
		}
		time.Sleep(time.Minute + time.Nanosecond)
		s.Configure(Config{FailureThreshold: 4, SuccessThreshold: 1})
		for range 3 { // it became half-open when three successes closed it: fewer would keep others out for ever
			end(t, s, Success)
		}
		if i := s.Infos()[0]; i.State != Closed {
			t.Errorf("after three successes: %+v", i)
		}
	})
}
