package tokens

import (
	"io/fs"
	"os"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// lookEach is how often the file is looked at: a token that was revoked is refused after that at the latest.
const lookEach = time.Second

// Keeper has the tokens of a file, and reads it again when it has changed.
type Keeper struct {
	path    string
	trouble func(error)

	mu     sync.Mutex
	looked time.Time
	info   fs.FileInfo
	byHash map[string]*Held
}

// Held is a token in use.
type Held struct {
	Token
	limiter *rate.Limiter // nil: no bound
}

// Wait takes the place of one request, or returns how long to wait for it.
func (h *Held) Wait() time.Duration {
	if h.limiter == nil {
		return 0
	}
	r := h.limiter.Reserve()
	wait := r.Delay()
	if wait > 0 {
		r.Cancel()
	}
	return wait
}

// Open reads a file. What is wrong with it later changes nothing, and is reported to trouble.
func Open(path string, trouble func(error)) (*Keeper, error) {
	k := &Keeper{path: path, trouble: trouble}
	return k, k.read()
}

func (k *Keeper) read() error {
	info, err := os.Stat(k.path)
	if err != nil {
		return err
	}
	all, err := Read(k.path)
	if err != nil {
		return err
	}
	before := map[string]*Held{}
	for _, h := range k.byHash {
		before[h.ID] = h
	}
	k.info, k.byHash = info, make(map[string]*Held, len(all))
	for _, t := range all {
		h := &Held{Token: t}
		switch was := before[t.ID]; {
		case was != nil && was.Rate == t.Rate:
			h.limiter = was.limiter
		case t.Rate > 0:
			h.limiter = rate.NewLimiter(rate.Limit(t.Rate), max(int(t.Rate), 1))
		}
		k.byHash[t.Hash] = h
	}
	return nil
}

// Find returns the token of a text, nil if there is none.
func (k *Keeper) Find(text string) *Held {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := time.Now(); now.Sub(k.looked) >= lookEach {
		k.looked = now
		if info, err := os.Stat(k.path); err != nil || !os.SameFile(info, k.info) || info.ModTime() != k.info.ModTime() || info.Size() != k.info.Size() {
			if err := k.read(); err != nil {
				k.trouble(err)
			}
		}
	}
	return k.byHash[hash(text)]
}

// Tenants are those that tokens are for.
func (k *Keeper) Tenants() map[string]bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := map[string]bool{}
	for _, h := range k.byHash {
		all[h.Tenant] = true
	}
	return all
}
