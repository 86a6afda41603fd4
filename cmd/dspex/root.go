package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex/cmd/dspex/internal/calls"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/cmd/dspex/internal/demo"
	"github.com/dspex/dspex/cmd/dspex/internal/doctor"
	"github.com/dspex/dspex/cmd/dspex/internal/gatewaycmd"
	"github.com/dspex/dspex/cmd/dspex/internal/local"
	"github.com/dspex/dspex/cmd/dspex/internal/ops"
	"github.com/dspex/dspex/cmd/dspex/internal/top"
	"github.com/dspex/dspex/internal/daemon"
)

const variablesHelp = `Credentials for the broker: $NATS_USER with $NATS_PASSWORD, $NATS_CREDS, $NATS_NKEY, $NATS_CERT with $NATS_KEY, $NATS_CA and
$NATS_INBOX_PREFIX, or a context, which wins.`

func execute(ctx context.Context, a *cli.App, args []string) int {
	root := rootCommand(a)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return daemon.ExitOK
	}
	if !a.Began {
		err = cli.WhatIsWrong(root, args, err)
	}
	status := cli.ExitStatus(ctx, err)
	a.SayError(err, status)
	return status
}

func rootCommand(a *cli.App) *cobra.Command {
	root := &cobra.Command{
		Use:     "dspex",
		Version: daemon.Version(),
		Short:   "A durable, session-affine pool of Python workers that run DSPy",
		Long:    "dspex runs and manages jobs in a durable, session-affine pool of Python workers that run DSPy, over NATS.\n\n" + variablesHelp + "\n\n" + cli.ExitHelp,
		Args:    cobra.NoArgs,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			a.ServerGiven = cmd.Flags().Changed("server")
			if a.Output != "text" && a.Output != "json" && a.Output != "jsonl" {
				return fmt.Errorf("--output must be text, json or jsonl, got %q", a.Output)
			}
			a.Began = true
			return nil
		},
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors: true, SilenceUsage: true,
	}
	cli.WrapHelp(a, root)
	root.SetVersionTemplate(versionLine())
	root.SetFlagErrorFunc(cli.FlagError)
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	flags := root.PersistentFlags()
	flags.StringVar(&a.Server, "server", "", "URL of NATS (default $NATS_URL, else "+cli.DefaultServer+")")
	flags.StringVar(&a.Context, "context", "", "context of the nats command line with URL and credentials (default $NATS_CONTEXT)")
	flags.StringVarP(&a.Output, "output", "o", "text", "text, json or jsonl (one line each)")
	group(root, "Jobs and sessions:", calls.Call(a), calls.Jobs(a), calls.Batch(a), calls.Sessions(a), calls.Programs(a), calls.Bench(a))
	group(root, "Operation:", doctor.Command(a), cli.Watched(a, ops.Health(a)), cli.Watched(a, ops.Stats(a)), top.Top(a), ops.Events(a), ops.Logs(a), ops.Hosts(a), ops.Reload(a), ops.Partitions(a), ops.Consumers(a), ops.Tenants(a), cli.Watched(a, ops.Breakers(a)), ops.DeadLetters(a),
		ops.Audit(a), ops.Backup(a), ops.Restore(a), cli.WithoutOutput(gatewaycmd.Command(a)), gatewaycmd.Tokens(a), cli.WithoutOutput(gatewaycmd.MCP(a)))
	group(root, "Without a deployment:", cli.WithoutOutput(cli.WithoutBroker(local.Dev(a))), cli.WithoutOutput(cli.WithoutBroker(demo.Command(a))),
		cli.WithoutBroker(local.Init(a)), cli.WithoutBroker(local.Config(a)), local.Env(a), cli.WithoutOutput(cli.WithoutBroker(local.EchoLM(a))), cli.WithoutBroker(versionCommand(a)), cli.WithoutOutput(cli.WithoutBroker(manCommand(a))))
	cli.Complete(a, root)
	return root
}

// group adds commands below a heading of their own in the help.
func group(root *cobra.Command, title string, commands ...*cobra.Command) {
	root.AddGroup(&cobra.Group{ID: title, Title: title})
	for _, c := range commands {
		c.GroupID = title
	}
	root.AddCommand(commands...)
}
