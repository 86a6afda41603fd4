package assign

import (
	"context"
	"fmt"
	"strings"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/stream"
)

// entry is what stands under a partition's key.
type entry struct {
	stream.Owner
	epoch   uint64
	foreign bool // none of ours has written it
}

// held counts the entries of other layouts.
func held(all []entry, now stream.Layout) (n int) {
	for _, e := range all {
		if e.Host != "" && !e.In(now) {
			n++
		}
	}
	return n
}

// everyKey is more than the keys that any layout has.
const everyKey = stream.ManyShards

// mostDrains bounds the hosts that may be draining at once.
const mostDrains = 10_000

// drains are the hosts that the operator wants empty.
func drains(ctx context.Context, broker *stream.Access) (map[string]bool, error) {
	all := map[string]bool{}
	_, err := broker.Control.Page(ctx, control.DrainKey("*"), stream.Page{Messages: mostDrains, Bytes: 8 << 20}, func(key string, e stream.Entry) error {
		all[strings.TrimPrefix(key, control.DrainKey(""))] = control.IsDrain(e.Value) // the bucket keeps some history: the last word counts
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("drains: %w", err)
	}
	return all, nil
}
