package ops

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/backup"
	"github.com/dspex/dspex/internal/daemon"
)

// Backup is `dspex backup`.
func Backup(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use: "backup DIR", Short: "Copy a running deployment into files",
		Long: `Copy the broker's streams and buckets of a running deployment into a directory that is empty or not there yet. Nothing is stopped.
What was accepted before the command began is in the copy: its outcome, or the job. It needs the broker user backup.
The files hold prompts, states and outcomes as they are: keep them as you keep the broker's disk.`,
		Example: `  dspex backup /backups/2026-11-29`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return copying(cmd.Context(), a, func(ctx context.Context, nc *nats.Conn, progress backup.Progress) (*backup.Manifest, error) {
				return backup.Write(ctx, nc, args[0], progress)
			})
		},
	}
}

// Restore is `dspex restore`.
func Restore(a *cli.App) *cobra.Command {
	replicas := 0
	cmd := &cobra.Command{
		Use: "restore DIR", Short: "Make a deployment of a backup, on an empty broker",
		Long: `Make the streams and buckets of a backup on a broker that has none of them. Stop dispatchers and worker-hosts first, start them
afterwards. Jobs that had no outcome run, in their order; sessions go on; what happened after the backup is lost, and a
session that began after it answers "reset". It needs the broker user backup.`,
		Example: `  dspex restore /backups/2026-11-29 --replicas 3`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if replicas < 0 || replicas > 5 {
				return cli.Usage("--replicas must be 1 to 5, or 0 for those of the backup, got %d", replicas)
			}
			if _, err := backup.ReadManifest(args[0]); err != nil {
				return cli.Usage("%v", err)
			}
			return copying(cmd.Context(), a, func(ctx context.Context, nc *nats.Conn, progress backup.Progress) (*backup.Manifest, error) {
				if err := backup.Alone(ctx, nc); err != nil {
					return nil, &cli.Failure{Status: daemon.ExitFailed, Text: err.Error(), Hint: "stop every dispatcher and worker-host, then try again"}
				}
				return backup.Restore(ctx, nc, args[0], replicas, progress)
			})
		},
	}
	cmd.Flags().IntVar(&replicas, "replicas", 0, "servers that keep each stream; 0: as in the backup")
	return cmd
}

// copying connects, runs one copy and reports what it did.
func copying(ctx context.Context, a *cli.App, do func(context.Context, *nats.Conn, backup.Progress) (*backup.Manifest, error)) error {
	address, options, err := a.Target()
	if err != nil {
		return err
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	options = append(options, nats.Name("dspex command line"), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		if errors.Is(err, nats.ErrPermissionViolation) {
			end(&cli.Failure{Status: daemon.ExitFailed, Text: "permission denied by the broker: " + err.Error(), Hint: "use the user backup: docs/operations.md, Backup"})
		}
	}))
	nc, err := nats.Connect(address, options...)
	if err != nil {
		return &cli.Failure{Status: daemon.ExitUnreachable, Text: fmt.Sprintf("cannot reach the broker at %s: %v", daemon.WithoutPassword(address), err)}
	}
	defer nc.Close()
	progress, stop := showCopy(a)
	m, err := do(ctx, nc, progress)
	stop()
	if denied, ok := errors.AsType[*cli.Failure](context.Cause(ctx)); ok && err != nil {
		return denied
	}
	if err != nil {
		return err
	}
	return sayCopy(a, m)
}

// showCopy draws how far a copy is, on a terminal.
func showCopy(a *cli.App) (backup.Progress, func()) {
	if !cli.IsTerminal(a.Err) || a.Env("TERM") == "dumb" {
		return func(string, uint64, uint64) {}, func() {}
	}
	last := time.Time{}
	return func(name string, n, of uint64) {
		if n < of && time.Since(last) < cli.BarEvery {
			return
		}
		last = time.Now()
		fmt.Fprint(a.Err, cli.ClearLine+cli.BarOf(n, of, name))
	}, func() { fmt.Fprint(a.Err, cli.ClearLine) }
}

func sayCopy(a *cli.App, m *backup.Manifest) error {
	if !a.Text() {
		list := []map[string]any{}
		for _, o := range m.Objects {
			list = append(list, map[string]any{"name": o.Name, "messages": o.Messages, "bytes": o.Bytes})
		}
		return a.Say(map[string]any{"began": m.Began, "ended": m.Ended, "objects": list})
	}
	table := cli.Columns{App: a, Head: []string{"STREAM", "MESSAGES", "SIZE"}, Right: []bool{false, true, true}}
	var rows [][]string
	for _, o := range m.Objects {
		rows = append(rows, []string{o.Name, fmt.Sprint(o.Messages), cli.Size(int(o.Bytes))})
	}
	table.Write(a.Out, rows)
	return nil
}
