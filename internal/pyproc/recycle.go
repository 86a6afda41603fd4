package pyproc

import (
	"fmt"
	"time"
)

// Recycle says when a worker is replaced by a fresh one. Zero means the documented default, less than zero never. The age and
// the number of jobs are spread by a tenth both ways, so that workers that started together do not go together.
type Recycle struct {
	Jobs int           // 10,000
	Age  time.Duration // 1 h
	// Own memory in bytes: what the worker shares with others (as after a fork) does not count. At Memory it is replaced, at
	// HardMemory killed at once.
	Memory     int64 // 512 MiB
	HardMemory int64 // 1 GiB
}

// minLife keeps a high rate of cheap jobs from becoming a storm of starts.
const minLife = time.Minute

func (r Recycle) withDefaults() Recycle {
	if r.Jobs == 0 {
		r.Jobs = 10_000
	}
	if r.Age == 0 {
		r.Age = time.Hour
	}
	if r.Memory == 0 {
		r.Memory = 512 << 20
	}
	if r.HardMemory == 0 {
		r.HardMemory = 1 << 30
	}
	return r
}

// reason says why a worker should be replaced, "" if it need not be. spread is its share of the limits, 0.9 to 1.1.
func (r Recycle) reason(age time.Duration, jobs, own uint64, spread float64) string {
	switch {
	case r.Memory > 0 && own >= uint64(r.Memory):
		return fmt.Sprintf("%d MiB of its own memory", own>>20)
	case age < minLife:
	case r.Jobs > 0 && float64(jobs) >= float64(r.Jobs)*spread:
		return fmt.Sprintf("%d jobs", jobs)
	case r.Age > 0 && float64(age) >= float64(r.Age)*spread:
		return fmt.Sprintf("age %v", age.Round(time.Second))
	}
	return ""
}

// watched is the memory below which there is no need to look closer, 0 if nobody asks.
func (r Recycle) watched() uint64 {
	switch {
	case r.Memory > 0 && (r.HardMemory < 0 || r.Memory < r.HardMemory):
		return uint64(r.Memory)
	case r.HardMemory > 0:
		return uint64(r.HardMemory)
	}
	return 0
}

// checkMemory returns the worker's own memory, as far as anybody asks, and an error if it is too much to let it live.
func (w *worker) checkMemory() (own uint64, err error) {
	limits := w.pool.cfg.Recycle
	if watched := limits.watched(); watched > 0 {
		own = w.child.ownMemory(watched)
	}
	if limits.HardMemory > 0 && own >= uint64(limits.HardMemory) {
		return own, &MemoryError{Worker: w.name, Own: own, Max: uint64(limits.HardMemory)}
	}
	return own, nil
}
