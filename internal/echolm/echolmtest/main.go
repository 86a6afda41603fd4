// Command echolmtest serves an echo model for tests in other languages. It prints the model's api_base on one line and serves until its
// standard input ends, so that it cannot outlive a test that drops it.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/dspex/dspex/internal/echolm"
)

func main() {
	// The heap is a few megabytes: collecting it less often halves the echo's share in what a benchmark measures.
	debug.SetGCPercent(800)
	server, err := echolm.New(echolm.Config{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	fmt.Println(server.URL())
	if err := server.Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
