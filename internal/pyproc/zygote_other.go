//go:build !linux

package pyproc

import (
	"context"
	"errors"
)

// canFork: a zygote needs the parent-death signal, and a system on which a fork without exec is safe.
const canFork = false

func (p *Pool) openZygote(context.Context, *spawner) (forker, error) {
	return nil, errors.ErrUnsupported
}
