package breaker

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"
)

// Defaults of a Config.
const (
	DefaultFailures  = 5
	DefaultSuccesses = 3
	DefaultTimeout   = time.Minute
)

// Config are the thresholds of a breaker. Zero values mean the defaults.
type Config struct {
	FailureThreshold int           // failures in a row that open it
	SuccessThreshold int           // successes in a row that close it when it is half-open
	Timeout          time.Duration // how long it stays open
}

// WithDefaults fills in what is zero.
func (c Config) WithDefaults() Config {
	if c.FailureThreshold == 0 {
		c.FailureThreshold = DefaultFailures
	}
	if c.SuccessThreshold == 0 {
		c.SuccessThreshold = DefaultSuccesses
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	return c
}

// Flags declares the thresholds as flags, with the defaults.
func (c *Config) Flags(f *pflag.FlagSet) {
	f.IntVar(&c.FailureThreshold, "breaker-failures", DefaultFailures, "failures in a row that open a circuit breaker (failure_threshold)")
	f.IntVar(&c.SuccessThreshold, "breaker-successes", DefaultSuccesses, "successes in a row that close a half-open circuit breaker (success_threshold)")
	f.DurationVar(&c.Timeout, "breaker-timeout", DefaultTimeout, "how long a circuit breaker stays open before it lets a trial through (timeout)")
}

// Check reports everything that is wrong, zero values included.
func (c Config) Check() error {
	var wrong []error
	if c.FailureThreshold < 1 || c.FailureThreshold > mostThreshold {
		wrong = append(wrong, fmt.Errorf("--breaker-failures must be 1 to %d, got %d", mostThreshold, c.FailureThreshold))
	}
	if c.SuccessThreshold < 1 || c.SuccessThreshold > mostThreshold {
		wrong = append(wrong, fmt.Errorf("--breaker-successes must be 1 to %d, got %d", mostThreshold, c.SuccessThreshold))
	}
	if c.Timeout <= 0 || c.Timeout > mostTimeout {
		wrong = append(wrong, fmt.Errorf("--breaker-timeout must be more than 0 and at most %v, got %v", mostTimeout, c.Timeout))
	}
	return errors.Join(wrong...)
}

// Bounds of a Config.
const (
	mostThreshold = 1000
	mostTimeout   = time.Hour
)
