package clock

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// System is the machine that the process runs on.
func System() Machine { return newSystem(bootTime) }

// system counts in CLOCK_BOOTTIME, which goes on while the machine is suspended. Reading it is a system call, a hundredth of what a host does
// for a job each time. Its distance from Go's monotonic clock changes by suspensions alone: so it is read once in a millisecond of that.
type system struct {
	plain
	boot    func() (Mono, bool)
	ahead   atomic.Int64 // of the monotonic clock, at least. It only grows: so Mono does
	renewed atomic.Int64 // on the monotonic clock
}

const fresh = int64(time.Millisecond)

func newSystem(boot func() (Mono, bool)) *system {
	s := &system{plain: plain{time.Now()}, boot: boot}
	s.renew()
	return s
}

// Mono is CLOCK_BOOTTIME, or up to a few µs before it.
func (s *system) Mono() Mono {
	now := int64(s.plain.Mono())
	if now-s.renewed.Load() >= fresh {
		s.renew()
		now = int64(s.plain.Mono())
	}
	return Mono(now + s.ahead.Load())
}

func (s *system) renew() {
	boot, ok := s.boot()
	after := int64(s.plain.Mono())
	if !ok {
		return
	}
	least := int64(boot) - after
	for was := s.ahead.Load(); least > was && !s.ahead.CompareAndSwap(was, least); was = s.ahead.Load() {
	}
	s.renewed.Store(after)
}

// bootTime is false on no kernel of this century.
func bootTime() (Mono, bool) {
	var now unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now)
	return Mono(now.Nano()), err == nil
}
