package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/dspex/dspex/internal/stream"
)

// fill takes a store's room for new keys away for a while. The process at whose point it happens receives nothing until it is
// done.
func (w *world) fill(f plannedFault, p *process) {
	bucket := "KV_" + stream.Results
	switch f.kind {
	case recordsFull:
		bucket = "KV_" + stream.Sessions
	case batchesFull:
		bucket = stream.BatchesStream
	}
	if p != nil {
		p.cable.partition(true, true)
	}
	w.requests <- func() {
		if p != nil {
			defer p.cable.heal(true, true)
		}
		if w.tap.bound(bucket, true) != nil {
			return // the broker is away
		}
		w.after(f.lasts, func() {
			for range 20 { // it may be away then
				if w.tap.bound(bucket, false) == nil {
					return
				}
				sleep(time.Second)
			}
			w.broken = fmt.Errorf("%s stays full", bucket)
		})
	}
	if f.kind == fullAndKill {
		w.after(f.lasts/2, func() { p.kill(time.Second) })
	}
}

// bound lets a stream hold no more bytes than it does, or as many as it likes.
func (p *tap) bound(name string, tight bool) error {
	p.mu.Lock()
	js := p.js
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	s, err := js.Stream(ctx, name)
	if err != nil {
		return err
	}
	cfg := s.CachedInfo().Config
	cfg.MaxBytes = -1
	if tight {
		cfg.MaxBytes = max(1, int64(s.CachedInfo().State.Bytes))
	}
	_, err = js.UpdateStream(ctx, cfg)
	return err
}
