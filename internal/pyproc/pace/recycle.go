package pace

import (
	"fmt"
	"time"
)

// Recycle is when a worker is replaced by a fresh one. Zero means the documented default, less than zero never. The age and
// the number of jobs are spread by a tenth both ways, so that workers that started together do not go together.
type Recycle struct {
	Jobs int           // 10,000
	Age  time.Duration // 1 h
	// Own memory in bytes: what the worker shares with others (as after a fork) does not count. At Memory it is replaced, at
	// HardMemory killed at once.
	Memory     int64 // 512 MiB
	HardMemory int64 // 1 GiB
}

// MinLife keeps a high rate of cheap jobs from becoming a storm of starts.
const MinLife = time.Minute

// WithDefaults has the documented defaults for what is zero.
func (r Recycle) WithDefaults() Recycle {
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

// Reason reports why a worker should be replaced, "" if it need not be. spread is its share of the limits, 0.9 to 1.1.
func (r Recycle) Reason(age time.Duration, jobs, own uint64, spread float64) string {
	switch {
	case r.Memory > 0 && own >= uint64(r.Memory):
		return fmt.Sprintf("%d MiB of its own memory", own>>20)
	case age < MinLife:
	case r.Jobs > 0 && float64(jobs) >= float64(r.Jobs)*spread:
		return fmt.Sprintf("%d jobs", jobs)
	case r.Age > 0 && float64(age) >= float64(r.Age)*spread:
		return fmt.Sprintf("age %v", age.Round(time.Second))
	}
	return ""
}

// Watched is the memory below which there is no need to look closer, 0 if there is no limit.
func (r Recycle) Watched() uint64 {
	switch {
	case r.Memory > 0 && (r.HardMemory < 0 || r.Memory < r.HardMemory):
		return uint64(r.Memory)
	case r.HardMemory > 0:
		return uint64(r.HardMemory)
	}
	return 0
}
