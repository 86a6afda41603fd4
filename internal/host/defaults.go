package host

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/pyproc"
)

// Defaults are what the people who run a host may choose for jobs that do not choose for themselves.
type Defaults struct {
	Timeout time.Duration
	File    string
}

// Flags defines a flag for each, with the documented default.
func (d *Defaults) Flags(f pyproc.FlagSet) {
	f.DurationVar(&d.Timeout, "operation-timeout", jobs.DefaultTimeout, "bound on one attempt of a job that sets no timeout (the original's operation_timeout)")
	f.StringVar(&d.File, "job-defaults", "", "JSON file of options for jobs that do not set them, by command, or its text")
}

// WithDefaults fills in what is zero.
func (d Defaults) WithDefaults() Defaults {
	if d.Timeout == 0 {
		d.Timeout = jobs.DefaultTimeout
	}
	return d
}

// Load reads the file and reports everything that is wrong.
func (d Defaults) Load() (jobs.Defaults, error) {
	if d.Timeout < time.Millisecond || d.Timeout > jobs.MaxTimeout {
		return jobs.Defaults{}, fmt.Errorf("--operation-timeout must be 1ms to %v, got %v", jobs.MaxTimeout, d.Timeout)
	}
	if d.File == "" {
		return jobs.Defaults{Timeout: d.Timeout}, nil
	}
	b, name := []byte(d.File), "given inline"
	if !strings.HasPrefix(strings.TrimSpace(d.File), "{") {
		var err error
		if b, err = os.ReadFile(d.File); err != nil {
			return jobs.Defaults{}, fmt.Errorf("--job-defaults: %w", err)
		}
		name = d.File
	}
	loaded, err := jobs.ParseDefaults(b)
	if err != nil {
		return jobs.Defaults{}, fmt.Errorf("--job-defaults %s: %w", name, err)
	}
	loaded.Timeout = d.Timeout
	return loaded, nil
}
