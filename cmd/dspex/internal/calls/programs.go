package calls

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// stateBytes bounds a file with the learnt state of a program: workers take a quarter of that.
const stateBytes = 1 << 20

// Programs is `dspex programs`.
func Programs(a *cli.App) *cobra.Command {
	var session string
	cmd := &cobra.Command{
		Use: "programs", Short: "List, show, push and delete programs and their learnt state",
		Long: `Manage the programs of the modules, those pushed to all hosts, and with --session those of a session. The results of an
optimiser of DSPy (demos, instructions), saved by module.save("state.json"), are sent to all hosts or into a session by
"dspex programs push". Pushing to all hosts and withdrawing need the operator role.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&session, "session", "", "session of the programs")
	cmd.AddCommand(programsList(a, &session), programsShow(a, &session), programsPush(a, &session), programsDelete(a, &session))
	return cmd
}

// inSession runs a command in the session, or without one if there is none.
func inSession(ctx context.Context, c *dspex.Client, session, command string, args dspex.Args) (dspex.Reply, error) {
	if session == "" {
		return c.ExecuteAnonymous(ctx, command, args)
	}
	return c.Execute(ctx, session, command, args)
}

func programsList(a *cli.App, session *string) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List programs", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				r, err := inSession(ctx, c, *session, "list_programs", nil)
				if err != nil {
					return err
				}
				return sayPrograms(a, r)
			})
		},
	}
}

// learntInfo is a worker's description of a program's learnt state.
type learntInfo struct {
	Demos, Version int
	Error          string
}

func sayPrograms(a *cli.App, r dspex.Reply) error {
	var found struct {
		Programs []struct {
			ID        string
			Executed  int `json:"execution_count"`
			Signature *struct {
				Inputs, Outputs []struct{ Name string }
			}
			Extra struct {
				Kind   string
				Learnt *learntInfo
			}
		}
	}
	if !a.Text() {
		return a.Say(r.Result)
	}
	if err := json.Unmarshal(r.Result, &found); err != nil {
		return fmt.Errorf("the answer cannot be read: %w", err)
	}
	if len(found.Programs) == 0 {
		fmt.Fprintln(a.Out, "no programs")
		return nil
	}
	var rows [][]string
	for _, p := range found.Programs {
		signature := "-"
		if p.Signature != nil {
			signature = names(p.Signature.Inputs) + " -> " + names(p.Signature.Outputs)
		}
		rows = append(rows, []string{cli.Word(p.ID), cli.Word(p.Extra.Kind), cli.Word(signature), strconv.Itoa(p.Executed), p.Extra.Learnt.String()})
	}
	(&cli.Columns{App: a, Head: []string{"PROGRAM", "KIND", "SIGNATURE", "RUNS", "LEARNT"}, Right: []bool{false, false, false, true, false}}).Write(a.Out, rows)
	return nil
}

func (l *learntInfo) String() string {
	switch {
	case l == nil:
		return "-"
	case l.Error != "":
		return fmt.Sprintf("version %d, not used: %s", l.Version, cli.Word(l.Error))
	case l.Version == 0:
		return fmt.Sprintf("%d demos", l.Demos)
	}
	return fmt.Sprintf("version %d, %d demos", l.Version, l.Demos)
}

func names(fields []struct{ Name string }) string {
	if len(fields) == 0 {
		return "()"
	}
	all := make([]string, len(fields))
	for i, f := range fields {
		all[i] = f.Name
	}
	return strings.Join(all, ", ")
}

func programsShow(a *cli.App, session *string) *cobra.Command {
	return &cobra.Command{
		Use: "show PROGRAM", Short: "Show a program", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				r, err := inSession(ctx, c, *session, "get_program_info", dspex.Args{"program_id": args[0]})
				if err != nil {
					return err
				}
				return sayProgram(a, r)
			})
		},
	}
}

// sayProgram shows what is known of a program, one thing a row.
func sayProgram(a *cli.App, r dspex.Reply) error {
	if !a.Text() {
		return a.Say(r.Result)
	}
	a.Table(a.Out, "", cli.RowsOf(r.Outputs()))
	return nil
}

func programsPush(a *cli.App, session *string) *cobra.Command {
	var signature, kind string
	cmd := &cobra.Command{
		Use: "push PROGRAM [STATE.json]", Short: "Push the learnt state of a program, or a whole program, to all hosts or into a session", Args: cobra.RangeArgs(1, 2),
		Long: `Push the learnt state of a program, a file written by DSPy's module.save("state.json"), to all hosts. PROGRAM is a program of the
modules; its next jobs use the state, on every host. With --signature PROGRAM is a new program. With --session the push is for that session only.`,
		Example: "  dspex programs push summarise state.json\n  dspex programs push qa state.json --signature \"question -> answer\" --type chain_of_thought",
		RunE: func(cmd *cobra.Command, given []string) error {
			args := dspex.Args{"id": given[0]}
			if len(given) == 2 {
				state, err := readState(given[1])
				if err != nil {
					return err
				}
				args["state"] = state
			}
			for name, value := range map[string]string{"signature": signature, "program_type": kind} {
				if value != "" {
					args[name] = value
				}
			}
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				if *session != "" {
					r, err := c.Execute(ctx, *session, "create_program", args)
					if err != nil {
						return err
					}
					return confirm(a, r, fmt.Sprintf("%s is in the session %s", cli.Word(given[0]), cli.Word(*session)))
				}
				r, err := c.Admin().ExecuteAnonymous(ctx, "push_program", args)
				if err != nil {
					return err
				}
				return confirm(a, r, fmt.Sprintf("%s goes to all hosts", cli.Word(given[0])))
			})
		},
	}
	cmd.Flags().StringVar(&signature, "signature", "", "signature of a new program, such as \"question -> answer\"")
	cmd.Flags().StringVar(&kind, "type", "", "its module: predict, chain_of_thought or react")
	return cmd
}

// confirm writes what was done as a sentence, or as the result.
func confirm(a *cli.App, r dspex.Reply, text string) error {
	if !a.Text() {
		return a.Say(r.Result)
	}
	fmt.Fprintln(a.Out, text)
	return nil
}

func readState(path string) (any, error) {
	info, err := os.Stat(path)
	if err != nil || info.IsDir() {
		return nil, cli.Usage("%s must be a file that DSPy's module.save(\"state.json\") wrote", path)
	}
	if info.Size() > stateBytes {
		return nil, cli.Usage("%s must have at most %d bytes, got %d", path, stateBytes, info.Size())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var state map[string]any
	if err := json.Unmarshal(text, &state); err != nil {
		return nil, cli.Usage("%s must be the JSON that DSPy's module.save(\"state.json\") writes; pickles and whole programs are not taken: %v", path, err)
	}
	return state, nil
}

func programsDelete(a *cli.App, session *string) *cobra.Command {
	return &cobra.Command{
		Use: "delete PROGRAM", Short: "Withdraw a push to all hosts, or delete a session's program", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				var r dspex.Reply
				var err error
				if *session != "" {
					r, err = c.Execute(ctx, *session, "delete_program", dspex.Args{"program_id": args[0]})
				} else {
					r, err = c.Admin().ExecuteAnonymous(ctx, "withdraw_program", dspex.Args{"program_id": args[0]})
				}
				if err != nil {
					return err
				}
				return confirm(a, r, "deleted "+cli.Word(args[0]))
			})
		},
	}
}
