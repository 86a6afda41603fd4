// Package calls has the commands of clients: they run jobs and manage their own jobs, sessions and programs.
package calls

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nuid"
	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// callFlags are the options of a job as flags.
type callFlags struct {
	body, session, job, signature, module, lm, backoff string
	lane                                               string
	outputs                                            []string
	timeout, deadline                                  time.Duration
	backoffCap                                         time.Duration
	retries                                            int
	temperature, jitter                                float64
	stream, submit, requireState, operator             bool
}

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
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error { return call(ctx, a, c, words[0], args, &f, options) })
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

// options are the options whose flags were given: what was not given is left to the other side.
func (f *callFlags) options(cmd *cobra.Command) ([]dspex.JobOption, error) {
	var options []dspex.JobOption
	given := func(name string, option func() dspex.JobOption) {
		if cmd.Flags().Changed(name) {
			options = append(options, option())
		}
	}
	if !cmd.Flags().Changed("job") && !f.submit {
		f.job = nuid.Next()
	}
	if f.job != "" {
		options = append(options, dspex.WithJobID(f.job))
	}
	given("timeout", func() dspex.JobOption { return dspex.WithTimeout(f.timeout) })
	given("deadline", func() dspex.JobOption { return dspex.WithDeadline(f.deadline) })
	given("max-retries", func() dspex.JobOption { return dspex.WithMaxRetries(f.retries) })
	given("backoff-cap", func() dspex.JobOption { return dspex.WithBackoffCap(f.backoffCap) })
	given("jitter", func() dspex.JobOption { return dspex.WithJitter(f.jitter) })
	given("outputs", func() dspex.JobOption { return dspex.WithOutputs(f.outputs...) })
	given("module", func() dspex.JobOption { return dspex.WithModule(f.module) })
	given("lm", func() dspex.JobOption { return dspex.WithLM(f.lm) })
	given("temperature", func() dspex.JobOption { return dspex.WithTemperature(f.temperature) })
	if f.requireState {
		options = append(options, dspex.WithRequireState())
	}
	if cmd.Flags().Changed("signature") {
		var signature any = f.signature
		if strings.HasPrefix(strings.TrimSpace(f.signature), "{") {
			if err := cli.ReadJSON([]byte(f.signature), &signature); err != nil {
				return nil, cli.Usage("--signature looks like a JSON map, but is not: %v", err)
			}
		}
		options = append(options, dspex.WithSignature(signature))
	}
	if f.backoff != "" {
		b, err := parseBackoff(f.backoff)
		if err != nil {
			return nil, err
		}
		options = append(options, dspex.WithBackoff(b))
	}
	switch {
	case f.submit && f.stream:
		return nil, cli.Usage("--submit does not wait, so --stream would have no effect")
	case f.operator && (f.submit || f.stream):
		return nil, cli.Usage("--operator excludes --submit and --stream: published jobs have the client role, and operators' commands do not stream")
	case cmd.Flags().Changed("lane") && (!f.submit || f.session != ""):
		return nil, cli.Usage("--lane is for --submit without a session")
	}
	return options, nil
}

// callOptions are the options of a call.
func callOptions(options []dspex.JobOption) (of []dspex.CallOption) {
	for _, o := range options {
		of = append(of, o)
	}
	return of
}

// submitOptions are the options of a submitted job.
func submitOptions(options []dspex.JobOption) (of []dspex.SubmitOption) {
	for _, o := range options {
		of = append(of, o)
	}
	return of
}

func parseBackoff(text string) (dspex.Backoff, error) {
	switch text {
	case "linear":
		return dspex.Linear(), nil
	case "exponential":
		return dspex.Exponential(), nil
	}
	var delays []time.Duration
	for part := range strings.SplitSeq(text, ",") {
		d, err := time.ParseDuration(strings.TrimSpace(part))
		if err != nil {
			return dspex.Backoff{}, cli.Usage("--backoff must be linear, exponential or delays such as 100ms,1s, got %q", text)
		}
		delays = append(delays, d)
	}
	return dspex.Delays(delays...), nil
}

func call(ctx context.Context, a *cli.App, c *dspex.Client, command string, args dspex.Args, f *callFlags, options []dspex.JobOption) error {
	switch {
	case f.submit:
		return submit(ctx, a, c, command, args, f, options)
	case f.stream:
		return stream(ctx, a, c, command, args, f, options)
	}
	job, of := f.ref(), callOptions(options)
	said := watch(ctx, a, c, job)
	defer said.stop()
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
	said.stop()
	if err != nil && ctx.Err() != nil {
		return goesOn(job)
	}
	return sayReply(a, reply, err)
}

// ref names the job. One without an id of its own gets one here, so that it can be looked for while it runs, and after an interrupt.
func (f *callFlags) ref() dspex.JobRef { return dspex.JobRef{Session: f.session, ID: f.job} }

func submit(ctx context.Context, a *cli.App, c *dspex.Client, command string, args dspex.Args, f *callFlags, options []dspex.JobOption) error {
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

// sayReply prints the answer of a job.
func sayReply(a *cli.App, reply dspex.Reply, err error) error {
	if !a.Text() && len(reply.Raw) > 0 {
		if said := a.Say(reply.Raw); said != nil || err == nil {
			return said
		}
		return cli.ErrSilent // the reply reports why
	}
	if err != nil {
		return withTextHint(err)
	}
	sayResult(a, reply)
	sayWhere(a, reply)
	return nil
}

// withTextHint shows how a number, a boolean, a list or a map is given as text, if that is what was refused.
func withTextHint(err error) error {
	e, ok := errors.AsType[*dspex.Error](err)
	name, isArg := "", false
	if ok {
		name, isArg = strings.CutPrefix(e.Path, "args.")
	}
	if !isArg || e.Hint != "" || !strings.Contains(e.Message, "must be str, not ") {
		return err
	}
	e.Hint = fmt.Sprintf(`%s=5 is a number; as text it is written %s:='"5"'`, name, name)
	return e
}

func sayResult(a *cli.App, reply dspex.Reply) {
	var result any
	if err := cli.DecodeJSON(reply.Result, &result); err != nil {
		fmt.Fprintln(a.Out, cli.Clean(string(reply.Result)))
		return
	}
	if outputs, ok := result.(map[string]any); ok && len(outputs) > 0 {
		a.Table(a.Out, "", cli.RowsOf(outputs))
		return
	}
	fmt.Fprintln(a.Out, cli.Plain(result))
}

// sayWhere adds, beside the result, where and how it was computed.
func sayWhere(a *cli.App, reply dspex.Reply) {
	parts := []string{"job " + reply.Job.ID, fmt.Sprintf("attempt %d", reply.Attempt)}
	parts = append(parts, reply.Worker, string(reply.SessionState), reply.Engine, "waited "+cli.Ms(reply.Queued), "ran "+cli.Ms(reply.Run))
	var shown []string
	for _, part := range parts {
		if part = cli.Word(part); part != "" {
			shown = append(shown, part)
		}
	}
	fmt.Fprintln(a.Err, a.Paint(a.Err, cli.Dim, strings.Join(shown, ", ")))
}
