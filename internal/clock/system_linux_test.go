package clock

import (
	"testing"
	"testing/synctest"
	"time"
)

// machine is one that can be suspended, in fake time.
func machine() (s *system, suspend func(time.Duration), reads *int) {
	began, slept := time.Now(), time.Duration(0)
	reads = new(int)
	s = newSystem(func() (Mono, bool) { *reads++; return time.Hour + slept + time.Since(began), true })
	return s, func(d time.Duration) { slept += d }, reads
}

func TestTheClockCountsSuspensionsThoughItIsReadOnceInAMillisecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, suspend, reads := machine()
		for range 1000 {
			s.Mono()
		}
		if *reads != 1 {
			t.Errorf("%d reads of the kernel's clock in one moment, expected 1", *reads)
		}
		before := s.Mono()
		if before != time.Hour {
			t.Errorf("Mono is %v, expected that of the boot, %v", before, time.Hour)
		}
		suspend(time.Minute)
		time.Sleep(time.Millisecond)
		if got, want := s.Mono()-before, time.Minute+time.Millisecond; got != want {
			t.Errorf("%v have passed, expected %v", got, want)
		}
	})
}

func TestTheClockOfTheMachineNeverGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, _ := machine()
		exact := s.boot
		late := time.Duration(0)
		s.boot = func() (Mono, bool) { // the process does not run between the read and what follows
			at, ok := exact()
			time.Sleep(late)
			return at, ok
		}
		last := s.Mono()
		for n := range 100 {
			late = time.Duration(n%7) * 10 * time.Millisecond
			time.Sleep(300 * time.Microsecond)
			now := s.Mono()
			if now < last {
				t.Fatalf("%v after %v", now, last)
			}
			last = now
		}
		if exact, _ := exact(); last != exact {
			t.Errorf("Mono is %v, expected %v", last, exact)
		}
	})
}

func TestTheKernelHasTheClock(t *testing.T) {
	if _, ok := bootTime(); !ok {
		t.Error("the kernel has no CLOCK_BOOTTIME")
	}
}
