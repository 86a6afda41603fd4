package telemetry

import (
	"log/slog"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/lifecycle"
)

// Blocked are the blocked jobs, by driver and step.
type Blocked struct {
	mu     sync.Mutex
	at     map[any]lifecycle.Step
	logged map[lifecycle.Step]time.Time // when it was logged last
}

// Steps are those at which a job can be blocked.
var Steps = []lifecycle.Step{lifecycle.StepNewer, lifecycle.StepRecord, lifecycle.StepRoom, lifecycle.StepAttemptRecord, lifecycle.StepCommit, lifecycle.StepDeadLetter, lifecycle.StepResult}

// blockedSilence is the time between two words of the log about the same step.
const blockedSilence = time.Minute

// Add notes a job, and logs it once in a while.
func (b *Blocked) Add(by any, step lifecycle.Step, cause error, log *slog.Logger) {
	if step == lifecycle.StepPredecessor {
		return // no fault: an earlier epoch works on the session
	}
	b.mu.Lock()
	if b.at == nil {
		b.at, b.logged = map[any]lifecycle.Step{}, map[lifecycle.Step]time.Time{}
	}
	b.at[by] = step
	quiet := time.Since(b.logged[step]) < blockedSilence
	if !quiet {
		b.logged[step] = time.Now()
	}
	b.mu.Unlock()
	if !quiet {
		log.Error("jobs_blocked", "step", step, "error", cause, "hint", blockedHint(step))
	}
}

func blockedHint(step lifecycle.Step) string {
	if step == lifecycle.StepNewer {
		return "a host of the newer version continues the session: finish the upgrade, or drain this host"
	}
	return "check that this host has permission to write it (nats.conf) and that the broker has room"
}

// Remove reports that the job gets on.
func (b *Blocked) Remove(by any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.at, by)
}

// Steps counts the blocked jobs by step; nil if there are none.
func (b *Blocked) Steps() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	var steps map[string]int
	for _, step := range b.at {
		if steps == nil {
			steps = map[string]int{}
		}
		steps[string(step)]++
	}
	return steps
}
