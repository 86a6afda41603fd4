package attempt

import (
	"time"

	"github.com/dspex/dspex/internal/lifecycle"
)

// Output is what one attempt brought.
type Output struct {
	lifecycle.Output

	answered bool   // the worker did, whatever it reported
	called   use    // whether the language model of the task was called
	Program  []byte // what push_program or withdraw_program has checked

	began time.Time // the first call
	spans []byte    // what the worker has reported of them
}

// Failed reports whether the attempt failed with code.
func (o *Output) Failed(code string) bool { return o.Err != nil && o.Err.Code == code }

// use is a worker's report of the use that a call made of its language model.
type use int

const (
	unreported use = iota
	unused
	used
)

func useOf(called bool) use {
	if called {
		return used
	}
	return unused
}
