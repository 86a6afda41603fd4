package host

import "testing"

// SpareTokens sets how many run tokens there are beside those in slots, until the test ends.
func SpareTokens(t *testing.T, n int) {
	t.Helper()
	before := spareTokens
	spareTokens = n
	t.Cleanup(func() { spareTokens = before })
}
