package gatewaycmd

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/daemon"
	"github.com/dspex/dspex/internal/tokens"
)

// Tokens is `dspex tokens`.
func Tokens(a *cli.App) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use: "tokens", Short: "Make, list and revoke the bearer tokens of a gateway", Args: cobra.NoArgs,
		Long: `Keep the file of tokens that "dspex gateway --tokens" reads. It holds the hash of each token, and never its text. A running
gateway sees a change within a second.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&path, "file", "tokens.json", "file of the tokens")
	cmd.AddCommand(cli.WithoutBroker(tokensNew(a, &path)), cli.WithoutBroker(tokensList(a, &path)), cli.WithoutBroker(tokensRevoke(a, &path)))
	return cmd
}

func tokensNew(a *cli.App, path *string) *cobra.Command {
	var t tokens.Token
	var role string
	cmd := &cobra.Command{
		Use: "new", Short: "Make a token and print it once", Args: cobra.NoArgs,
		Long: `Make a token and print it on standard output. Nobody can read it again. Its bearer sends it as "Authorization: Bearer TOKEN".

call: run commands, store jobs, read and cancel them. operate: also the commands of operators (contract/commands.md, Roles), where
the gateway's own user may use them, and /metrics.`,
		RunE: func(*cobra.Command, []string) error {
			t.Role = tokens.Role(role)
			if err := t.Check(); err != nil {
				return cli.Usage("%v", err)
			}
			added, text, err := tokens.New(*path, t, time.Now())
			if err != nil {
				return err
			}
			if !a.Text() {
				return a.Say(map[string]any{"id": added.ID, "token": text})
			}
			fmt.Fprintln(a.Out, text)
			fmt.Fprintln(a.Err, a.Paint(a.Err, cli.Dim, "It is shown this once. `dspex tokens revoke "+added.ID+"` takes it back."))
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&t.Tenant, "tenant", tokens.Default, "tenant whose sessions and jobs it reaches")
	f.StringVar(&role, "role", string(tokens.Call), "call or operate")
	f.StringVar(&t.Sessions, "sessions", "", "required prefix of its session names and of its ids of anonymous jobs (default: none)")
	f.Float64Var(&t.Rate, "rate", 0, "requests a second (0: no bound)")
	return cmd
}

// listed is a token as lists show it: without its hash.
type listed struct {
	ID       string      `json:"id"`
	Tenant   string      `json:"tenant"`
	Role     tokens.Role `json:"role"`
	Sessions string      `json:"sessions"`
	Rate     float64     `json:"rate"`
	Created  time.Time   `json:"created"`
}

func tokensList(a *cli.App, path *string) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the tokens", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			all, err := tokens.Read(*path)
			if err != nil {
				return unread(err)
			}
			rows, shown := [][]string{}, []listed{}
			for _, t := range all {
				shown = append(shown, listed{t.ID, t.Tenant, t.Role, t.Sessions, t.Rate, t.Created})
				rate := "-"
				if t.Rate > 0 {
					rate = strconv.FormatFloat(t.Rate, 'g', -1, 64) + "/s"
				}
				rows = append(rows, []string{t.ID, t.Tenant, string(t.Role), cli.FirstOf(t.Sessions, "-"), rate, t.Created.Format(time.DateOnly)})
			}
			if !a.Text() {
				return a.Say(shown)
			}
			table := cli.Columns{App: a, Head: []string{"ID", "TENANT", "ROLE", "SESSIONS", "RATE", "CREATED"}, Right: []bool{false, false, false, false, true, false}}
			table.Write(a.Out, rows)
			return nil
		},
	}
}

func tokensRevoke(a *cli.App, path *string) *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "Revoke a token: a gateway refuses it within a second", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			switch err := tokens.Revoke(*path, args[0]); {
			case errors.Is(err, tokens.ErrUnknown):
				return &cli.Failure{Status: daemon.ExitFailed, Text: err.Error() + ": " + cli.Word(args[0]), Hint: "`dspex tokens list` shows the ids"}
			case err != nil:
				return unread(err)
			}
			if !a.Text() {
				return a.Say(map[string]any{"id": args[0], "status": "revoked"})
			}
			fmt.Fprintln(a.Out, "revoked", args[0])
			return nil
		},
	}
}

// unread is the error of a file that cannot be read.
func unread(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &cli.Failure{Status: daemon.ExitFailed, Text: err.Error(), Hint: "`dspex tokens new` makes it; --file names another one"}
	}
	return err
}
