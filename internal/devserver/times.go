package devserver

import (
	"errors"
	"fmt"
	"time"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/pyproc"
)

// Times are how long things may take, as in worker-host.
type Times struct {
	Checkout time.Duration // of a call's wait for a slot
	Idle     time.Duration // after which a session is forgotten
	Grace    time.Duration // of running jobs at the end
}

// Flags defines a flag for each, with the documented default.
func (t *Times) Flags(f pyproc.FlagSet) {
	f.DurationVar(&t.Checkout, "checkout-timeout", defaultTimes.Checkout, "how long a call waits for a slot")
	f.DurationVar(&t.Idle, "session-idle", defaultTimes.Idle, "how long an idle session is kept")
	f.DurationVar(&t.Grace, "grace", defaultTimes.Grace, "how long running jobs may take to finish at the end")
}

// defaultTimes are those of worker-host.
var defaultTimes = Times{Checkout: jobs.CheckoutTimeout, Idle: time.Hour, Grace: 30 * time.Second}

func (t Times) check() error {
	var wrong []error
	for _, one := range []struct {
		flag  string
		value time.Duration
	}{{"checkout-timeout", t.Checkout}, {"session-idle", t.Idle}, {"grace", t.Grace}} {
		if one.value <= 0 {
			wrong = append(wrong, fmt.Errorf("--%s must be more than 0, got %v", one.flag, one.value))
		}
	}
	return errors.Join(wrong...)
}
