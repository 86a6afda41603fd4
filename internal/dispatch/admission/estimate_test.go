package admission

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/control"
)

// crowded is a model of hosts: slots that take each call for a while, in order.
type crowded struct {
	estimate
	t       *testing.T
	now     time.Time
	slots   int
	run     time.Duration
	queue   []time.Time // when the calls that wait came
	ends    []time.Time // of the calls that run
	ran     int64
	slowest time.Duration // wait for a slot
}

func newCrowded(t *testing.T, slots int, run time.Duration) *crowded {
	f := &crowded{t: t, now: time.Now(), slots: slots, run: run}
	f.report()
	f.ran = 100
	f.report()
	return f
}

func (f *crowded) report() {
	f.observe(f.now, control.Heartbeat{Host: "h", Incarnation: "1", Capacity: f.slots, Ran: f.ran, RunMillis: f.ran * f.run.Milliseconds(), WaitingCalls: int64(len(f.queue))})
}

// pass lets a millisecond go by.
func (f *crowded) tick(n int) {
	f.now = f.now.Add(time.Millisecond)
	f.ends = slices.DeleteFunc(f.ends, func(at time.Time) bool {
		if at.After(f.now) {
			return false
		}
		f.ran++
		return true
	})
	for len(f.queue) > 0 && len(f.ends) < f.slots {
		f.slowest = max(f.slowest, f.now.Sub(f.queue[0]))
		f.queue, f.ends = f.queue[1:], append(f.ends, f.now.Add(f.run))
	}
	if n%100 == 0 && len(f.queue) > 0 || n%1000 == 0 || f.needsReport(f.now) {
		f.report()
	}
}

func (f *crowded) call(session string) time.Duration {
	retry := f.admit(f.now, session, session, session, 3*time.Second)
	if retry == 0 {
		f.queue = append(f.queue, f.now)
	}
	return retry
}

func TestACrowdIsRefusedAndTheSlotsStayBusy(t *testing.T) {
	for _, times := range []int{1, 3, 10, 100} {
		t.Run(fmt.Sprintf("%dx", times), func(t *testing.T) {
			f := newCrowded(t, 16, 100*time.Millisecond) // 160 calls a second
			caller, due := 0, 0.0
			for n := range 10_000 {
				for due += 0.160 * float64(times); due >= 1; due-- {
					caller++
					f.call(fmt.Sprint("s", caller))
				}
				f.tick(n)
			}
			if done := f.ran - 100; done < 1_500 {
				t.Errorf("%d calls were done in 10 s, expected almost 1600", done)
			}
			if f.slowest > 2600*time.Millisecond {
				t.Errorf("an accepted call waited %v of 3 s", f.slowest)
			}
		})
	}
}

func TestWhoComesBackWhenToldToIsAccepted(t *testing.T) {
	f := newCrowded(t, 16, 100*time.Millisecond)
	back := map[int][]string{} // by millisecond
	caller, returned, refused := 0, 0, 0
	due := 0.0
	for n := range 20_000 {
		for due += 1.6; due >= 1; due-- {
			caller++
			name := fmt.Sprint("s", caller)
			if retry := f.call(name); retry > 0 {
				at := n + int(retry/time.Millisecond) + 1
				back[at] = append(back[at], name)
			}
		}
		for _, name := range back[n] {
			returned++
			if f.call(name) > 0 {
				refused++
			}
		}
		f.tick(n)
	}
	if returned < 1000 || refused*10 > returned {
		t.Errorf("of %d that came back %d were refused again", returned, refused)
	}
}

func TestAfterACrowdThatDoesNotComeBackTheNextOneIsNotToldToComeInMinutes(t *testing.T) {
	f := newCrowded(t, 16, 100*time.Millisecond)
	rush := func(name string) (longest time.Duration) {
		for n := range 2_000 {
			for i := range 3 {
				longest = max(longest, f.call(fmt.Sprint(name, n, "_", i)))
			}
			f.tick(n)
		}
		return longest
	}
	first := rush("gone")
	for n := range 5_000 { // all of it is done, and a single call comes
		f.tick(n)
	}
	f.call("single")
	if second := rush("next"); first < 30*time.Second || second > first*3/2 {
		t.Errorf("the first crowd was told to come back in up to %v, the second in up to %v", first, second)
	}
}

func TestWhoComesBackTooEarlyHasNoPlace(t *testing.T) {
	f := newCrowded(t, 1, time.Second)
	for n := range 100 {
		f.call(fmt.Sprint("crowd", n))
	}
	f.report()
	first := f.call("s")
	if first <= 0 {
		t.Fatal("the call was accepted")
	}
	f.now = f.now.Add(10 * time.Millisecond)
	if again := f.call("s"); again <= 0 || again > first {
		t.Errorf("the first refusal said %v, one 10 ms later %v: the place must be the same", first, again)
	}
}

func TestASessionThatWasIdleIsAcceptedBesideThoseThatCallAllTheTime(t *testing.T) {
	f := newCrowded(t, 16, 100*time.Millisecond)
	for n := range 10_000 {
		f.call(fmt.Sprint("busy", n%200))
		if n > 2000 && n%500 == 0 {
			if retry := f.call(fmt.Sprint("idle", n)); retry > 0 {
				t.Fatalf("after %d ms: come back in %v", n, retry)
			}
		}
		f.tick(n)
	}
}

func TestASessionIsRefusedWhatItCannotRunInTime(t *testing.T) {
	f := newCrowded(t, 16, 100*time.Millisecond)
	report := control.Heartbeat{Host: "h", Incarnation: "1", Capacity: 16, Ran: f.ran, RunMillis: f.ran * 100, WaitingCalls: 1, Deep: map[string]int{"deep": 40}}
	f.observe(f.now, report)
	if retry := f.call("deep"); retry == 0 {
		t.Error("a call behind 40 others of its session was accepted")
	}
	if retry := f.call("another"); retry != 0 {
		t.Errorf("another session is to come back in %v, though slots are free", retry)
	}
}

func TestWhoCallsFastOneAfterTheOtherIsNotRefused(t *testing.T) {
	f := newCrowded(t, 2, time.Second) // as far as is known
	f.run = time.Millisecond
	for n := range 10_000 {
		if retry := f.call("s"); retry != 0 {
			t.Fatalf("call %d: come back in %v", n, retry)
		}
		f.tick(n + 1)
		f.tick(n + 1)
	}
}

func TestWithoutHostsAndWithAFirstCallNothingIsRefused(t *testing.T) {
	var a estimate
	for n := range 1000 {
		if retry := a.admit(time.Now(), "c", "c", "", time.Second); retry != 0 {
			t.Fatalf("call %d: come back in %v", n, retry)
		}
	}
}

func TestABurstOnHostsThatHaveJustStartedIsNotRefusedForAGuess(t *testing.T) {
	f := &crowded{t: t, now: time.Now(), slots: 8, run: 20 * time.Millisecond}
	for n := range 2_000 {
		for i := range 64 { // sessions that call one job after the other
			if n%200 == 0 {
				if retry := f.call(fmt.Sprint("s", i)); retry != 0 {
					t.Fatalf("after %d ms call %d is to come back in %v", n, i, retry)
				}
			}
			if n == 0 {
				f.report() // calls wait, as is known at once
			}
		}
		f.tick(n)
	}
}

func TestACrowdBeforeAnyJobHasEndedIsRefusedForWhatWasSeen(t *testing.T) {
	f := &crowded{t: t, now: time.Now(), slots: 8, run: time.Minute}
	for n := range 1_000 {
		f.call(fmt.Sprint("s", n))
		f.tick(n)
	}
	if retry := f.call("one more"); retry == 0 {
		t.Errorf("a call behind %d others was accepted, though none has ended for a second", len(f.queue))
	}
	if len(f.queue) > 100 {
		t.Errorf("%d calls wait for 8 slots of which none became free for a second", len(f.queue))
	}
}

func TestADispatcherThatStartsLearnsFromWhatTheHostsHaveRun(t *testing.T) {
	f := &crowded{t: t, now: time.Now(), slots: 8, run: 20 * time.Millisecond, ran: 500}
	f.report()
	if f.mean() != f.run {
		t.Errorf("a job is assumed to take %v, and the host reported 500 of %v", f.mean(), f.run)
	}
}

func TestMemoryOfCallersAndTicketsIsBounded(t *testing.T) {
	f := newCrowded(t, 1, time.Second)
	for n := range 200_000 {
		f.call(fmt.Sprint("s", n))
		if n%1000 == 0 {
			f.report()
		}
	}
	if n := len(f.tickets.by); n > mostTickets || n != len(f.tickets.oldest) {
		t.Errorf("%d tickets, %d in the heap", n, len(f.tickets.oldest))
	}
	if n := len(f.callers.young) + len(f.callers.old); n > 2*mostCallers {
		t.Errorf("%d callers", n)
	}
}
