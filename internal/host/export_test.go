package host

import "testing"

// SpareTurns sets how many loops run beside those in slots, until the test ends.
func SpareTurns(t *testing.T, n int) {
	t.Helper()
	before := spareTurns
	spareTurns = n
	t.Cleanup(func() { spareTurns = before })
}
