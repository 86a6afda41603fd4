package daemon

import "runtime"

// ballastBytes are never touched, so they take no memory; the collector counts them, and lets as much garbage come before it
// runs. With the few megabytes that these programs hold it would run dozens of times a second under load.
const ballastBytes = 64 << 20

// tune fits Go's runtime to programs that pass small messages on beside others that need the processors more. It returns what
// has to stay alive. Variables of Go that are set win.
func tune(env func(string) string) (ballast []byte) {
	if env("GOMAXPROCS") == "" {
		// Half of them: the rest is for Python and the broker. A woken processor that finds nothing to do costs more than it
		// brings; with one of two, jobs took a tenth less.
		runtime.GOMAXPROCS(max(1, runtime.GOMAXPROCS(0)/2))
	}
	if env("GOGC") == "" {
		ballast = make([]byte, ballastBytes)
	}
	return ballast
}
