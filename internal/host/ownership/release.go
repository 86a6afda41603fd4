package ownership

import (
	"encoding/json"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/jobs"
)

// Release serves dspex.ctl.<host>.release, by which the leader requests partitions. The assignments are the answer.
func (k *Keeper) Release() (stop func(), err error) {
	return k.on.Serve(jobs.SubjectControl+k.host+".release", k.onRelease)
}

func (k *Keeper) onRelease(data []byte, _ func([]byte)) {
	var request control.Release
	if err := json.Unmarshal(data, &request); err != nil {
		k.on.Log.Warn("release_unreadable", "error", err)
		return
	}
	for n, epoch := range request.Partitions {
		if k.assigned.get(n).epoch > epoch {
			continue // taken again since
		}
		if t, ok := k.owned.Load(n); ok {
			t.(*Ownership).release(request.Patient)
		} else if k.stopping.Load() { // assigned when it was too late to be taken
			k.giveBack(k.work, n, epoch)
		}
	}
}

// release ends the ownership. A patient leader takes no partition of which an attempt runs that may outlast the grace.
func (t *Ownership) release(patient bool) {
	if !patient || !t.served.RunsBeyond(t.k.on.Clock.Mono()+t.k.grace) {
		t.leave()
	}
}
