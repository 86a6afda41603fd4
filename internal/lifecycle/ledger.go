package lifecycle

import (
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

// ledger is where a job's life is written down, and what follows from that. All that can be asked for comes back as an event.
type ledger interface {
	session() bool
	known() bool // there is something in memory that is worth keeping without work
	strip()      // drops of it what is hardly needed without work
	doubt()      // has it read again before it counts

	// Before the first attempt.
	ready(c *Core) bool // what is written down is known; else it has been asked for
	load(c *Core, ev *Event) error
	past(c *Core) bool    // the job has its outcome, and is being completed
	suspect(c *Core) bool // the job's id may have a result
	ended(j *Job) (jobs.Kind, bool)
	resume(c *Core) bool // takes the earlier attempts up; false: something is waited for first

	// An attempt.
	lm() []byte
	prefers(c *Core) uint64
	waited(c *Core) time.Duration // for a slot, before it was asked for
	label() jobs.StateOf          // of the state, if nothing ran
	begin(c *Core)                // writes the attempt down, then calls
	lease(c *Core) (held bool)    // the job is known to be this host's, for as long as the action Call says
	loose(c *Core)                // it is not: finds out, or lets the job go
	keptAlive(c *Core)
	equip(c *Core, call *Action) // gives the task what a call needs
	retry(c *Core, d time.Duration)
	hold(c *Core, r Refusal) // waits for a circuit breaker
	handsBack(c *Core) bool  // leaves the job to another host
	writeAttempt(c *Core)    // Beginning and Postponing
	attemptWritten(c *Core, ev *Event)
	commit(c *Core)

	alive() time.Duration // between two signs of life for the job at work
	renewIn(c *Core) (time.Duration, bool)
}

func (c *Core) writeAttempt(*Event)      { c.ledger.writeAttempt(c) }
func (c *Core) attemptWritten(ev *Event) { c.ledger.attemptWritten(c, ev) }
