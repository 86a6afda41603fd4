// Command dispatcher is the control plane: RPC doors, outcomes, health, and the assignment of partitions to worker-hosts.
// Any number of dispatchers may run; one leads.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/dispatch"
	"github.com/dspex/dspex/internal/stream"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "dispatcher:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("dispatcher", flag.ContinueOnError)
	server := f.String("server", env("NATS_URL", nats.DefaultURL), "URL of the NATS server (or NATS_URL)")
	creds := f.String("creds", "", "NATS credentials file")
	name := f.String("name", hostname(), "name of this dispatcher, unique in the deployment")
	partitions := f.Int("partitions", 0, "partitions of a new deployment (default 64); an existing one keeps its number")
	replicas := f.Int("replicas", 1, "replicas of streams and buckets: 1 or 3")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	opts := []nats.Option{nats.Name("dspex dispatcher " + *name), nats.ReconnectBufSize(-1), nats.MaxReconnects(-1)}
	if *creds != "" {
		opts = append(opts, nats.UserCredentials(*creds))
	}
	nc, err := nats.Connect(*server, opts...)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", *server, err)
	}
	defer nc.Close()
	d, err := dispatch.New(dispatch.Config{Name: *name, NC: nc, Log: log,
		Settings: stream.Settings{Partitions: *partitions, Replicas: *replicas},
		OnReady:  func() { fmt.Println("ready", *server) }})
	if err != nil {
		return err
	}
	return d.Run(ctx)
}

func env(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "dispatcher"
	}
	return strings.ReplaceAll(name, ".", "-")
}
