// Package calls has the commands of clients: they run jobs and manage their own jobs, sessions and programs.
package calls

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// Call is `dspex call`.
func Call(a *cli.App) *cobra.Command {
	var f callFlags
	cmd := &cobra.Command{
		Use:   "call COMMAND [key=value ...]",
		Short: "Run a command and print its result",
		Long: "Run a command, with --session in that session, and print its result.\n\n" + cli.ArgsHelp + `

With --output json the whole reply is printed, failures included; jsonl prints each streamed part and the reply on lines of
their own.

` + cli.ExitHelp,
		Example: `  dspex call predict question="What is the capital of France?" --session user_123
  dspex call predict text="I love it" --signature "text -> sentiment: Literal['good','bad'], score: float" -o json
  dspex call predict question="Tell me more" --session user_123 --stream
  dspex call create_program --session user_123 --json '{"id": "qa", "signature": "question -> answer"}'`,
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: completeCommand,
		RunE: func(cmd *cobra.Command, words []string) error {
			if err := cli.NotEmpty(cmd); err != nil {
				return err
			}
			args, err := a.ParseArgs(words[1:], f.body)
			if err != nil {
				return err
			}
			options, err := f.options(cmd)
			if err != nil {
				return err
			}
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				return runCall(ctx, a, c, words[0], args, &f, options)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.body, "json", "", "arguments as a JSON map: the text, @FILE, or - for standard input")
	flags.StringVar(&f.session, "session", "", "session to run in; without it the job is anonymous")
	flags.StringVar(&f.job, "job", "", "job id of your own: a repeat under the same id returns the first outcome")
	flags.BoolVar(&f.stream, "stream", false, "print the answer as it arrives")
	flags.BoolVar(&f.submit, "submit", false, "store the job and print its id instead of waiting")
	flags.StringVar(&f.lane, "lane", string(dspex.LaneInteractive), "with --submit and no session: interactive or batch")
	flags.DurationVar(&f.timeout, "timeout", 30*time.Second, "bound on one attempt")
	flags.DurationVar(&f.deadline, "deadline", 0, "bound on the whole job, all attempts and waiting included")
	flags.IntVar(&f.retries, "max-retries", 0, "retries after the first attempt (default by the kind of error)")
	flags.StringVar(&f.backoff, "backoff", "", "linear, exponential or delays such as 100ms,1s (default exponential)")
	flags.DurationVar(&f.backoffCap, "backoff-cap", 30*time.Second, "bound on each delay between attempts")
	flags.Float64Var(&f.jitter, "jitter", 0, "spread of the delays: 0.1 makes each random between 90 and 110 % (0.25 at most)")
	flags.StringVar(&f.signature, "signature", "", `predict: the program, such as "question -> answer: int", or its JSON map`)
	flags.StringSliceVar(&f.outputs, "outputs", nil, "predict without signature: names of the outputs (default answer)")
	flags.StringVar(&f.module, "module", "", "predict: predict, chain_of_thought or react")
	flags.StringVar(&f.lm, "lm", "", "language-model profile of the host, for this job only")
	flags.Float64Var(&f.temperature, "temperature", 0, "sampling temperature, for this job only")
	flags.BoolVar(&f.operator, "operator", false, "use the operator's endpoints: for shutdown, and set_lm for all sessions, where tenants have accounts")
	flags.BoolVar(&f.requireState, "require-state", false, "refuse to run on a session without state")
	return cmd
}

func runCall(ctx context.Context, a *cli.App, c *dspex.Client, command string, args dspex.Args, f *callFlags, options []dspex.JobOption) error {
	switch {
	case f.submit:
		return storeJob(ctx, a, c, command, args, f, options)
	case f.stream:
		return streamCall(ctx, a, c, command, args, f, options)
	}
	job, of := f.ref(), callOptions(options)
	note := watch(ctx, a, c, job)
	defer note.stop()
	var reply dspex.Reply
	var err error
	switch {
	case f.operator && f.session != "":
		reply, err = c.Admin().Execute(ctx, f.session, command, args, of...)
	case f.operator:
		reply, err = c.Admin().ExecuteAnonymous(ctx, command, args, of...)
	case f.session != "":
		reply, err = c.Execute(ctx, f.session, command, args, of...)
	default:
		reply, err = c.ExecuteAnonymous(ctx, command, args, of...)
	}
	note.stop()
	if err != nil && ctx.Err() != nil {
		return goesOn(job)
	}
	return sayReply(a, reply, err)
}

func storeJob(ctx context.Context, a *cli.App, c *dspex.Client, command string, args dspex.Args, f *callFlags, options []dspex.JobOption) error {
	var receipt dspex.Receipt
	var err error
	if f.session != "" {
		receipt, err = c.Submit(ctx, f.session, command, args, submitOptions(options)...)
	} else {
		receipt, err = c.SubmitAnonymous(ctx, dspex.Lane(f.lane), command, args, submitOptions(options)...)
	}
	if err != nil {
		return err
	}
	if !a.Text() {
		return a.Say(map[string]any{"ok": true, "job": receipt.Job.ID, "sequence": receipt.Sequence})
	}
	fmt.Fprintln(a.Out, receipt.Job.ID)
	next := "dspex jobs wait " + receipt.Job.ID
	if f.session != "" {
		next += " --session " + f.session
	}
	fmt.Fprintln(a.Err, a.Paint(a.Err, cli.Dim, "accepted; `"+next+"` waits for its outcome"))
	return nil
}
