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
	asked := make(chan os.Signal, 2)
	signal.Notify(asked, syscall.SIGHUP)
	defer signal.Stop(asked)
	file := filepath.Join(t.TempDir(), "nats.pid")
	if err := os.WriteFile(file, fmt.Appendln(nil, os.Getpid()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := askToReload(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	<-asked
	<-asked
}
