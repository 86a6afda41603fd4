package jobs

import (
	"math"
	"time"

	"github.com/dspex/dspex/internal/wire"
)

// readOption reads one of the options about retries.
func (p *Policy) readOption(key, path string, in *wire.Reader) *Error {
	switch key {
	case "max_retries":
		v, err := in.Int()
		if err != nil || v < 0 || v > MaxRetries {
			return Refused(CodeBadOption, path, "an integer from 0 to 20", "max_retries is out of range")
		}
		p.MaxRetries = new(int(v))
	case "backoff":
		b, ok := backoff(in)
		if !ok {
			return Refused(CodeBadOption, path, `"linear", "exponential" or a list of 1 to 20 delays in ms (0 to 30000)`, "unknown backoff")
		}
		p.Backoff = b
	case "backoff_cap":
		d, ok := duration(in)
		if !ok || d < time.Millisecond || d > BackoffCap {
			return Refused(CodeBadOption, path, `milliseconds as an integer, or text with a unit such as "5s"; 1 ms to 30 s`, "backoff_cap is not a duration in range")
		}
		p.Cap = d
	case "jitter":
		v, err := in.Float()
		if err != nil || math.IsNaN(v) || v < 0 || v > MaxJitter {
			return Refused(CodeBadOption, path, "a number from 0 to 0.25", "jitter is out of range")
		}
		p.Jitter = v
	}
	return nil
}

func backoff(in *wire.Reader) (Backoff, bool) {
	switch in.Kind() {
	case wire.Str:
		switch s, _ := in.Str(); s {
		case "linear":
			return Linear(), true
		case "exponential":
			return Exponential(), true
		}
	case wire.Array:
		n, err := in.Array()
		if err != nil || n < 1 || n > MaxRetries {
			return Backoff{}, false
		}
		delays := make([]time.Duration, 0, n)
		for range n {
			v, err := in.Int()
			if err != nil || v < 0 || v > int64(BackoffCap/time.Millisecond) {
				return Backoff{}, false
			}
			delays = append(delays, time.Duration(v)*time.Millisecond)
		}
		return Delays(delays...), true
	}
	return Backoff{}, false
}
