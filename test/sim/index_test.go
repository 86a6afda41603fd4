package sim

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestTheIndexHasEveryWord: README.md lists each fault, point and mood.
func TestTheIndexHasEveryWord(t *testing.T) {
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(string(page)), " ")
	var words []string
	for _, k := range slices.Concat(timedFaults, atPoints, []faultKind{ackLost, allStopped}) {
		words = append(words, string(k))
	}
	for _, p := range append(slices.Concat(hostPoints, dispatcherPoints, batchPoints), pointSubmit) {
		words = append(words, string(p))
	}
	for _, m := range moods {
		words = append(words, m.name)
	}
	words = append(words, batchesUnderFire)
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("README.md does not have %q", word)
		}
	}
}
