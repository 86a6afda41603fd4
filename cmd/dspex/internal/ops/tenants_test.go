package ops

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
)

// TestABrokerIsAskedTwiceToReadItsConfiguration, with the test in the place of the broker.
func TestABrokerIsAskedTwiceToReadItsConfiguration(t *testing.T) {
	reloads := make(chan os.Signal, 2)
	signal.Notify(reloads, syscall.SIGHUP)
	defer signal.Stop(reloads)
	file := filepath.Join(t.TempDir(), "nats.pid")
	if err := os.WriteFile(file, fmt.Appendln(nil, os.Getpid()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := askToReload(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	<-reloads
	<-reloads
}
