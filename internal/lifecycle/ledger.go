package lifecycle

import (
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

// ledger is what is written down of a job's life, as far as it is known. All that can be requested comes back as an event.
type ledger interface {
	known() bool   // there is something in memory that is worth keeping without work
	strip(c *Core) // drops of it what is hardly needed without work
	doubt()        // has it read again before it counts

	ready(c *Core) bool // what is written down is known; else it has been requested
	load(c *Core, ev *Event) error
	past(c *Core) bool    // the job has its outcome, and is being completed
	suspect(c *Core) bool // the job's id may have a result
	ended(j *Job) (jobs.Kind, bool)
	resume(c *Core) bool // takes the earlier attempts up; false: something is waited for first

	lm() []byte
	prefers(c *Core) uint64
	label() jobs.StateOf // of the state, if nothing ran
}

// journal is how a job's life is written down, and what follows from that.
type journal interface {
	begin(c *Core)                // writes the attempt down, then calls
	waited(c *Core) time.Duration // for a slot, before it was requested
	lease(c *Core) (held bool)    // the job is known to be this host's, for as long as the action Call says
	loose(c *Core)                // it is not: finds out, or lets the job go
	keptAlive(c *Core)
	alive() time.Duration     // between two signs of life for the job at work
	equip(c *Core, a *Action) // gives the task what a call needs
	hold(c *Core, r Refusal)  // waits for a circuit breaker
	handsBack(c *Core) bool   // leaves the job to another host
	retry(c *Core, d time.Duration)
	writeAttempt(c *Core) // Beginning and Postponing
	attemptWritten(c *Core, ev *Event)
	commit(c *Core)
}
