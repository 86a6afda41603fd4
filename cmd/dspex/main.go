// Command dspex is the command line of dspex: it calls commands, manages jobs, shows the pool's state and measures it.
// `dspex help` lists what it can do.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/daemon"
)

func main() { os.Exit(run()) }

// run is main with an exit status, so that tests can start it in a process of their own.
func run() int {
	if slices.Contains(os.Args[1:], "dev") || slices.Contains(os.Args[1:], "demo") { // they run code of users
		if err := daemon.Conceal(); err != nil {
			fmt.Fprintln(os.Stderr, "dspex:", err)
			return daemon.ExitFailed
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second interrupt ends it at once
	program := "dspex"
	if strings.ContainsRune(os.Args[0], filepath.Separator) { // it is not on the PATH
		program = os.Args[0]
	}
	a := &cli.App{Program: program, In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Env: os.Getenv}
	return execute(ctx, a, os.Args[1:])
}
