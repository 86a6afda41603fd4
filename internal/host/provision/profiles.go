package provision

import "sync"

// sentProfiles keeps which worker has which language model.
type sentProfiles struct {
	mu    sync.Mutex
	known map[uint64]map[string]bool
}

// mostWorkers bounds the workers kept; a dropped one is sent again.
const mostWorkers = 1024

// send sends it to the worker unless it was sent. A caller may call then: it has gone out. send does not wait.
func (k *sentProfiles) send(worker uint64, key string, send func() error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.known == nil || len(k.known) > mostWorkers {
		k.known = map[uint64]map[string]bool{}
	}
	if k.known[worker] == nil {
		k.known[worker] = map[string]bool{}
	}
	if k.known[worker][key] {
		return nil
	}
	if err := send(); err != nil {
		return err
	}
	k.known[worker][key] = true
	return nil
}
