package host

import (
	"context"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// sentProfiles remembers which worker knows which language model.
type sentProfiles struct {
	mu    sync.Mutex
	known map[uint64]map[string]bool
}

// toldWorkers bounds the workers remembered; a forgotten one is told again.
const toldWorkers = 1024

// tell tells the worker if it does not know. Who finds it told may call: it has gone out by then. tell does not wait.
func (k *sentProfiles) tell(worker uint64, key string, tell func() error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.known == nil || len(k.known) > toldWorkers {
		k.known = map[uint64]map[string]bool{}
	}
	if k.known[worker] == nil {
		k.known[worker] = map[string]bool{}
	}
	if k.known[worker][key] {
		return nil
	}
	if err := tell(); err != nil {
		return err
	}
	k.known[worker][key] = true
	return nil
}

// publishDefaultLM makes a choice the default of every host.
func (h *Host) publishDefaultLM(ctx context.Context, args []byte) *jobs.Error {
	for range tries {
		e, err := h.control.Get(ctx, jobs.DefaultLMKey)
		if err == nil {
			_, err = h.control.PutSync(jobs.DefaultLMKey, args, e.Revision, 0)
		}
		if err == nil {
			return h.cfg.Models.SetDefault(args)
		}
	}
	return jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the choice of language model could not be stored").Again()
}

// followDefaultLM applies what any host's set_lm chose.
func (h *Host) followDefaultLM(ctx context.Context) {
	stream.Follow(ctx, h.js, stream.Control, jobs.DefaultLMKey, h.log, func(_ string, args []byte) {
		if args == nil {
			return
		}
		if !jobs.IsDefaultLM(args) {
			h.log.Error("default_lm_not_ours", "hint", "the health names it; remove the key, or set_lm anew")
			return
		}
		if bad := h.cfg.Models.SetDefault(args); bad != nil {
			h.log.Warn("default_lm_unusable", "code", bad.Code, "error", bad.Message)
		}
	})
}

// tries bounds how often a write is made again that another one has overtaken.
const tries = 8

// brokerPause is the wait between tries when the broker does not answer.
const brokerPause = time.Second
