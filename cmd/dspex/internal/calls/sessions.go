package calls

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// Sessions is `dspex sessions`.
func Sessions(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use: "sessions", Short: "List, show, clean up, export, import and erase sessions", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(sessionsListCommand(a), sessionsGetCommand(a), sessionsCleanupCommand(a), sessionsExportCommand(a), sessionsImportCommand(a),
		sessionsEraseCommand(a))
	return cmd
}

func sessionsListCommand(a *cli.App) *cobra.Command {
	var f dspex.SessionFilter
	var many cli.ListFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List sessions, longest idle first",
		Example: `  dspex sessions list --prefix user_ --idle 30m
  dspex sessions list --all -o jsonl`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if f.Limit, err = many.Most(cmd); err != nil {
				return err
			}
			if f.Idle < 0 {
				return cli.Usage("--idle must not be negative")
			}
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				list := cli.Listing[dspex.SessionInfo]{Row: sessionRow, None: "no such sessions", Raw: func(s dspex.SessionInfo) json.RawMessage { return s.Raw }, Table: cli.Columns{
					App: a, Head: []string{"SESSION", "HOST", "WORKER", "IDLE", "AGE", "OPERATIONS", "PROGRAMS", "STATE", ""},
					Right: []bool{false, false, false, true, true, true, true, true, false}, Least: []int{6, 4, 2, 5},
				}}
				return list.Say(a, c.Admin().Sessions(ctx, f), f.Limit)
			})
		},
	}
	many.Add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.Prefix, "prefix", "", "only sessions whose id has this prefix")
	flags.StringVar(&f.Host, "host", "", "only sessions that this host serves now")
	flags.DurationVar(&f.Idle, "idle", 0, "only sessions that have been idle for at least this long")
	return cmd
}

func sessionRow(s dspex.SessionInfo) []string {
	note := ""
	switch {
	case s.Unreadable != "":
		return []string{cli.Word(s.ID), cli.Dash(s.Host), "-", "-", "-", "-", "-", "-", "unreadable: " + cli.Word(s.Unreadable)}
	case s.Expired:
		note = "expired"
	}
	return []string{
		cli.Word(s.ID), cli.Dash(s.Host), cli.Dash(s.Worker), cli.Span(s.Idle),
		cli.Span(s.LastActivity.Sub(s.CreatedAt) + s.Idle),
		strconv.FormatUint(s.Operations, 10), strconv.Itoa(s.ProgramsCount), cli.Size(s.StateBytes), note,
	}
}

func sessionsGetCommand(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use: "get SESSION", Short: "Show everything about one session", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				s, err := c.Admin().GetSession(ctx, args[0])
				if err != nil {
					return err
				}
				if !a.Text() {
					return a.Say(s.Raw)
				}
				saySession(a, s)
				return nil
			})
		},
	}
}

func saySession(a *cli.App, s dspex.SessionDetails) {
	since := func(d time.Duration) string { return cli.Span(d) + " ago" }
	at := func(t time.Time) string {
		if t.IsZero() {
			return "-"
		}
		return t.Format(time.RFC3339)
	}
	running, waiting, lm := "", strconv.Itoa(s.WaitingJobs), ""
	if r := s.Running; r != nil {
		running = fmt.Sprintf("%s, attempt %d, %s", cli.Word(r.ID), r.Attempt, cli.Word(string(r.Status)))
	}
	if s.WaitingJobs > 0 {
		waiting += ", the oldest " + since(s.OldestWaiting)
	}
	if s.LM != nil {
		lm = cli.Plain(s.LM)
	}
	expired := ""
	if s.Expired {
		expired = "yes: its state is gone for its next job"
	}
	a.Table(a.Out, "", []cli.Row{
		{"session", cli.Word(s.ID)}, {"host", cli.Dash(s.Host)}, {"worker", cli.Dash(s.Worker)}, {"partition", fmt.Sprintf("%d, epoch %d", s.Partition, s.Epoch)},
		{"created", since(s.Age)}, {"last activity", since(s.Idle)}, {"expired", expired}, {"operations", strconv.FormatUint(s.Operations, 10)},
		{"running", running}, {"waiting jobs", waiting}, {"state", fmt.Sprintf("version %d, %s, generation %d", s.StateVersion, cli.Size(s.StateBytes), s.Generation)},
		{"conversation", fmt.Sprintf("%d turns", s.Turns)}, {"data", fmt.Sprintf("%d keys", s.DataKeys)}, {"language model", lm},
		{"programs", strconv.Itoa(s.ProgramsCount)},
	})
	if len(s.Programs) == 0 {
		return
	}
	table := cli.Columns{App: a, Head: []string{"PROGRAM", "TYPE", "EXECUTIONS", "CREATED", "LAST EXECUTED"}, Right: []bool{false, false, true, false, false}}
	var rows [][]string
	for _, p := range s.Programs {
		rows = append(rows, []string{cli.Word(p.ID), cli.Dash(p.ProgramType), strconv.FormatInt(p.ExecutionCount, 10), at(p.CreatedAt), at(p.LastExecuted)})
	}
	fmt.Fprintln(a.Out)
	table.Write(a.Out, rows)
}

// jobOption is the flag --job of what runs as a job of the session.
func jobOption(cmd *cobra.Command, job *string) {
	cmd.Flags().StringVar(job, "job", "", "job id of your own: a repeat under the same id has no effect")
}

func withJob(job string) []dspex.SessionOption {
	if job == "" {
		return nil
	}
	return []dspex.SessionOption{dspex.WithJobID(job)}
}

func sessionsCleanupCommand(a *cli.App) *cobra.Command {
	var job string
	cmd := &cobra.Command{
		Use: "cleanup SESSION", Short: "Remove a session's state, after its waiting jobs", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				reply, err := c.Admin().CleanupSession(ctx, args[0], withJob(job)...)
				return sayReply(a, reply, err)
			})
		},
	}
	jobOption(cmd, &job)
	return cmd
}

func sessionsEraseCommand(a *cli.App) *cobra.Command {
	var job string
	var yes bool
	cmd := &cobra.Command{
		Use:   "erase SESSION --yes",
		Short: "Remove everything about a session: state, outcomes, dead letters",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !yes {
				return cli.Usage("erasing cannot be undone: rerun with --yes to confirm (`dspex sessions export` keeps a copy)")
			}
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				reply, err := c.Admin().EraseSession(ctx, args[0], withJob(job)...)
				return sayReply(a, reply, err)
			})
		},
	}
	jobOption(cmd, &job)
	cmd.Flags().BoolVar(&yes, "yes", false, "confirm the erasure")
	return cmd
}

func sessionsExportCommand(a *cli.App) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:     "export SESSION",
		Short:   "Write a session as a JSON document for import",
		Example: "  dspex sessions export user_123 --out user_123.json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				document, err := c.Admin().ExportSession(ctx, args[0])
				if err != nil {
					return err
				}
				if out == "" {
					return a.Say(document)
				}
				if err := writeNew(out, document); err != nil || !a.Text() {
					return err
				}
				fmt.Fprintln(a.Err, a.Paint(a.Err, cli.Dim, fmt.Sprintf("wrote %s to %s", cli.Size(len(document)), out)))
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "file to write, which must not exist (default standard output)")
	return cmd
}

// writeNew makes a file that only its owner can read: it holds conversations.
func writeNew(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(append(content, '\n')); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

func sessionsImportCommand(a *cli.App) *cobra.Command {
	var job string
	var replace bool
	cmd := &cobra.Command{
		Use:   "import SESSION FILE",
		Short: "Replace a session's state by an exported document (- is standard input)",
		Example: `  dspex sessions import user_123 user_123.json
  dspex sessions export a | dspex sessions import b -`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			document, err := readDocument(a, args[1])
			if err != nil {
				return err
			}
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				reply, err := c.Admin().ImportSession(ctx, args[0], document, replace, withJob(job)...)
				return sayReply(a, reply, err)
			})
		},
	}
	jobOption(cmd, &job)
	cmd.Flags().BoolVar(&replace, "replace", false, "replace the session's existing state")
	return cmd
}

// mostDocument bounds what is read: a broker that takes larger messages is unlikely.
const mostDocument = 64 << 20

func readDocument(a *cli.App, path string) ([]byte, error) {
	in := a.In
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, cli.Usage("%v", err)
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	document, err := io.ReadAll(io.LimitReader(in, mostDocument+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the document: %w", err)
	case len(document) > mostDocument:
		return nil, cli.Usage("the document has more than %s", cli.Size(mostDocument))
	case !json.Valid(document):
		return nil, cli.Usage("the document is not JSON")
	}
	return document, nil
}
