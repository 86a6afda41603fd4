package host

import (
	"sync"
	"time"

	"github.com/dspex/dspex/internal/lifecycle"
)

// blocked are the drivers whose jobs cannot get on, by the step at which they are held up.
type blocked struct {
	mu   sync.Mutex
	at   map[*driver]lifecycle.Step
	said map[lifecycle.Step]time.Time // when the log told of it last
}

var allSteps = []lifecycle.Step{lifecycle.StepNewer, lifecycle.StepRecord, lifecycle.StepRoom, lifecycle.StepHead, lifecycle.StepCommit, lifecycle.StepLetter, lifecycle.StepResult}

// blockedSilence is the time between two words of the log about the same step.
const blockedSilence = time.Minute

func (b *blocked) add(h *Host, d *driver, a *lifecycle.Action) {
	if a.Step == lifecycle.StepPredecessor {
		return // no fault: an earlier epoch works on the session
	}
	b.mu.Lock()
	if b.at == nil {
		b.at, b.said = map[*driver]lifecycle.Step{}, map[lifecycle.Step]time.Time{}
	}
	b.at[d] = a.Step
	quiet := time.Since(b.said[a.Step]) < blockedSilence
	if !quiet {
		b.said[a.Step] = time.Now()
	}
	b.mu.Unlock()
	if !quiet {
		h.log.Error("jobs_stuck", "step", a.Step, "error", a.Cause, "hint", blockedHint(a.Step))
	}
}

func blockedHint(step lifecycle.Step) string {
	if step == lifecycle.StepNewer {
		return "a host of the newer version goes on with the session: finish the upgrade, or drain this host"
	}
	return "may this host write it (permissions in nats.conf), and has the broker room?"
}

func (b *blocked) remove(d *driver) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.at, d)
}

// steps counts the blocked jobs by step; nil if there are none.
func (b *blocked) steps() map[string]int {
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
