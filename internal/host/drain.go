package host

import (
	"context"
	"sync/atomic"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/link"
	"github.com/dspex/dspex/internal/stream"
)

// drain is whether the operator wants the host empty: it pulls no anonymous jobs then, and the leader takes its partitions away.
type drain struct{ on atomic.Bool }

// read reads what the operator wants.
func (d *drain) read(ctx context.Context, from *stream.Access, host string) error {
	return link.Retry(ctx, from.Log, link.Passes, func(ctx context.Context) error {
		e, err := from.Control.Get(ctx, control.DrainKey(host))
		d.on.Store(control.IsDrain(e.Value))
		return err
	})
}

// follow keeps up with that until ctx ends, and calls looked at each look.
func (d *drain) follow(ctx context.Context, from *stream.Access, host string, looked func()) {
	from.Follow(ctx, stream.Control, control.DrainKey(host), func(_ string, e stream.Entry) {
		on := control.IsDrain(e.Value)
		if d.on.Swap(on) != on {
			from.Log.Info("drain", "on", on)
		}
		looked()
	})
}
