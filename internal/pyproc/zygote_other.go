//go:build !linux

package pyproc

import (
	"context"
	"errors"

	"github.com/dspex/dspex/internal/pyproc/proc"
)

// canFork: a zygote needs the parent-death signal, and a system on which a fork without exec is safe.
const canFork = false

func (p *Pool) openZygote(context.Context, *proc.Spawner) (forker, error) {
	return nil, errors.ErrUnsupported
}
