//go:build race

package stream

import "runtime"

// The race detector crashes when two threads run timers of one bubble of fake time: https://github.com/golang/go/issues/78156.
var _ = runtime.GOMAXPROCS(1)
