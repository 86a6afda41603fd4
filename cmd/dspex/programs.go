package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
)

// stateBytes bounds a file with what a program has learnt: workers take a quarter of that.
const stateBytes = 1 << 20

func (a *app) programsCommand() *cobra.Command {
	var session string
	cmd := &cobra.Command{
		Use: "programs", Short: "Look after programs and what they have learnt",
		Long: `Look after the programs of the modules, those that were pushed to all hosts, and with --session those of a session. What an
optimiser of DSPy has found (demos, instructions) is saved by module.save("state.json"), and goes to all hosts or into a session by
"dspex programs push". Pushing to all hosts, and taking back, need the operator's role.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&session, "session", "", "session whose programs are meant")
	cmd.AddCommand(a.programsList(&session), a.programsShow(&session), a.programsPush(&session), a.programsDelete(&session))
	return cmd
}

// inSession runs a command in the session, or without one if there is none.
func inSession(ctx context.Context, c *dspex.Client, session, command string, args dspex.Args) (dspex.Reply, error) {
	if session == "" {
		return c.ExecuteAnonymous(ctx, command, args)
	}
	return c.Execute(ctx, session, command, args)
}

func (a *app) programsList(session *string) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List programs", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				r, err := inSession(ctx, c, *session, "list_programs", nil)
				if err != nil {
					return err
				}
				return a.sayPrograms(r)
			})
		},
	}
}

// learntInfo is what a worker tells of what a program has learnt.
type learntInfo struct {
	Demos, Version int
	Error          string
}

func (a *app) sayPrograms(r dspex.Reply) error {
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
	if !a.text() {
		return a.say(r.Result)
	}
	if err := json.Unmarshal(r.Result, &found); err != nil {
		return fmt.Errorf("the answer cannot be read: %w", err)
	}
	if len(found.Programs) == 0 {
		fmt.Fprintln(a.out, "no programs")
		return nil
	}
	var rows [][]string
	for _, p := range found.Programs {
		signature := "-"
		if p.Signature != nil {
			signature = names(p.Signature.Inputs) + " -> " + names(p.Signature.Outputs)
		}
		rows = append(rows, []string{word(p.ID), word(p.Extra.Kind), word(signature), strconv.Itoa(p.Executed), p.Extra.Learnt.String()})
	}
	(&columns{app: a, head: []string{"PROGRAM", "KIND", "SIGNATURE", "RUNS", "LEARNT"}, right: []bool{false, false, false, true, false}}).write(a.out, rows)
	return nil
}

func (l *learntInfo) String() string {
	switch {
	case l == nil:
		return "-"
	case l.Error != "":
		return fmt.Sprintf("version %d, not used: %s", l.Version, word(l.Error))
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

func (a *app) programsShow(session *string) *cobra.Command {
	return &cobra.Command{
		Use: "show PROGRAM", Short: "Show a program", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				r, err := inSession(ctx, c, *session, "get_program_info", dspex.Args{"program_id": args[0]})
				if err != nil {
					return err
				}
				return a.sayProgram(r)
			})
		},
	}
}

// sayProgram shows what is known of a program, one thing a row.
func (a *app) sayProgram(r dspex.Reply) error {
	if !a.text() {
		return a.say(r.Result)
	}
	a.table(a.out, "", rowsOf(r.Outputs()))
	return nil
}

func (a *app) programsPush(session *string) *cobra.Command {
	var signature, kind string
	cmd := &cobra.Command{
		Use: "push PROGRAM [STATE.json]", Short: "Give what a program has learnt, or a whole program, to all hosts or into a session", Args: cobra.RangeArgs(1, 2),
		Long: `Give what a program has learnt, as DSPy's module.save("state.json") wrote it, to all hosts. PROGRAM is a program of the
modules; its next jobs run with it, on every host. With --signature it is a program of its own. With --session it goes into that session only.`,
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
			return a.withClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				if *session != "" {
					r, err := c.Execute(ctx, *session, "create_program", args)
					if err != nil {
						return err
					}
					return a.said(r, fmt.Sprintf("%s is in the session %s", word(given[0]), word(*session)))
				}
				r, err := c.Admin().ExecuteAnonymous(ctx, "push_program", args)
				if err != nil {
					return err
				}
				return a.said(r, fmt.Sprintf("%s goes to all hosts", word(given[0])))
			})
		},
	}
	cmd.Flags().StringVar(&signature, "signature", "", "signature of a program that no module has, such as \"question -> answer\"")
	cmd.Flags().StringVar(&kind, "type", "", "its module: predict, chain_of_thought or react")
	return cmd
}

// said tells of what was done in a sentence, or by the result.
func (a *app) said(r dspex.Reply, text string) error {
	if !a.text() {
		return a.say(r.Result)
	}
	fmt.Fprintln(a.out, text)
	return nil
}

func readState(path string) (any, error) {
	info, err := os.Stat(path)
	if err != nil || info.IsDir() {
		return nil, usage("%s must be a file that DSPy's module.save(\"state.json\") wrote", path)
	}
	if info.Size() > stateBytes {
		return nil, usage("%s must have at most %d bytes, got %d", path, stateBytes, info.Size())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var state map[string]any
	if err := json.Unmarshal(text, &state); err != nil {
		return nil, usage("%s must be the JSON that DSPy's module.save(\"state.json\") writes; pickles and whole programs are not taken: %v", path, err)
	}
	return state, nil
}

func (a *app) programsDelete(session *string) *cobra.Command {
	return &cobra.Command{
		Use: "delete PROGRAM", Short: "Take back what was pushed to all hosts, or delete a session's program", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
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
				return a.said(r, "deleted "+word(args[0]))
			})
		},
	}
}
