package clock

import (
	"time"

	"golang.org/x/sys/unix"
)

type system struct{ plain }

// Mono is CLOCK_BOOTTIME, which goes on while the machine is suspended.
func (s system) Mono() Mono {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil { // every kernel of this century has it
		return s.plain.Mono()
	}
	return Mono(now.Nano())
}

// System is the machine that the process runs on.
func System() Machine { return system{plain{time.Now()}} }
