package local

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/config"
	"github.com/dspex/dspex/internal/daemon"
)

// Config is `dspex config`.
func Config(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "Check and show the file of settings", Args: cobra.NoArgs,
		Long: `Check and show the file of settings of dispatcher, worker-host, dspex gateway and dspex dev: dspex.yaml or dspex.toml in the working
directory, or the one that --config or $DSPEX_CONFIG names. "dspex init" writes one.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(configCheck(a), configShow(a), configSchema(a))
	return cmd
}

// file reads the file that is named, or found.
func file(a *cli.App, named string) (*config.File, error) {
	f, err := readFile(a, named, config.Read)
	if err != nil {
		return nil, &cli.Failure{Status: 1, Text: err.Error()}
	}
	return f, nil
}

func readFile(a *cli.App, named string, read func(string) (*config.File, error)) (*config.File, error) {
	path, err := config.Find(cli.FirstOf(named, a.Env(config.Variable(config.FileFlag))), ".")
	if err != nil {
		return nil, err
	}
	return read(path)
}

// CheckFile reads a file of settings and reports everything that is wrong with it, as the programs would. Whether the variables are there
// that it names is not its fault.
func CheckFile(path string) (*config.File, error) {
	if path == "" {
		return &config.File{}, nil
	}
	var d devRun
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	d.flags(flags)
	d.cfg.Env = func(string) string { return "x" }
	if err := flags.Set(config.FileFlag, path); err != nil {
		return nil, err
	}
	none := func(string) string { return "" }
	f, wrong := config.Set(flags, none, ".")
	return f, errors.Join(wrong, f.Locate(d.check(none)), checkNamed(f))
}

func configCheck(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use: "check [FILE]", Short: "List all errors of the file", Args: cobra.MaximumNArgs(1),
		Long: "List all errors of the file, and of the files that it names, with line and column.\n\nExit status: 0 nothing is wrong; 1 something is, or there is no file.",
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := readFile(a, strings.Join(args, ""), CheckFile)
			if err != nil {
				return &cli.Failure{Status: 1, Text: err.Error()}
			}
			if f.Path == "" {
				return &cli.Failure{Status: 1, Text: "there is no " + strings.Join(config.Names, ", ") + " here", Hint: "`dspex init` writes one"}
			}
			if !a.Text() {
				return a.Say(map[string]any{"path": f.Path, "settings": len(f.Settings), "warnings": f.Warnings})
			}
			for _, w := range f.Warnings {
				fmt.Fprintln(a.Err, cli.Clean(w))
			}
			fmt.Fprintf(a.Out, "%s: %d settings, nothing is wrong\n", cli.Word(f.Path), len(f.Settings))
			return nil
		},
	}
}

func configShow(a *cli.App) *cobra.Command {
	var named, program string
	var origin bool
	cmd := &cobra.Command{
		Use: "show", Short: "Show the effective settings of a program that is started without flags", Args: cobra.NoArgs,
		Example: "  dspex config show --origin\n  dspex config show --for dispatcher -o json",
		RunE: func(*cobra.Command, []string) error {
			of := program
			if of == "dev" || of == "gateway" {
				of = "dspex " + of
			}
			f, err := file(a, named)
			if err != nil {
				return err
			}
			shown := withoutSecrets(config.Show(of, f, a.Env))
			if len(shown) == 0 {
				return cli.Usage("--for must be dispatcher, worker-host, gateway or dev, got %q", program)
			}
			if !a.Text() {
				return a.Say(shown)
			}
			if !origin {
				rows := make([]cli.Row, len(shown))
				for i, e := range shown {
					rows[i] = cli.Row{e.Key, cli.Dash(e.Value)}
				}
				a.Table(a.Out, "", rows)
				return nil
			}
			var rows [][]string
			for _, e := range shown {
				rows = append(rows, []string{e.Key, cli.Dash(e.Value), cli.Word(e.Origin)})
			}
			(&cli.Columns{App: a, Head: []string{"KEY", "VALUE", "ORIGIN"}}).Write(a.Out, rows)
			return nil
		},
	}
	cmd.Flags().StringVar(&named, config.FileFlag, "", "file of settings (default: dspex.yaml or dspex.toml in the working directory) [$DSPEX_CONFIG]")
	cmd.Flags().StringVar(&program, "for", "worker-host", "dispatcher, worker-host, gateway or dev")
	cmd.Flags().BoolVar(&origin, "origin", false, "show the source of each value")
	return cmd
}

// withoutSecrets hides what may hold a password or a token.
func withoutSecrets(shown []config.Effective) []config.Effective {
	for i, e := range shown {
		switch {
		case e.Value == "":
		case e.Key == "server":
			shown[i].Value = daemon.WithoutPassword(e.Value)
		case e.Key == "alert_webhook":
			shown[i].Value = "(set)"
		}
	}
	return shown
}

func configSchema(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON schema of the file, for editors", Args: cobra.NoArgs,
		Example: "  dspex config schema >dspex.schema.json   # then, in dspex.yaml:  # yaml-language-server: $schema=dspex.schema.json",
		RunE:    func(*cobra.Command, []string) error { return a.Say(config.Schema()) },
	}
}

// Init is `dspex init`.
func Init(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use: "init [FILE]", Short: "Write a file of settings with comments", Args: cobra.MaximumNArgs(1),
		Long: "Write a file of settings with comments: dspex.yaml, or FILE. An existing file is not changed.",
		RunE: func(_ *cobra.Command, args []string) error {
			path := cli.FirstOf(strings.Join(args, ""), config.Names[0])
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // it holds no secrets
			if errors.Is(err, os.ErrExist) {
				return &cli.Failure{Status: 1, Text: path + " is there already", Hint: "`dspex config check` checks it; remove it, or name another file"}
			}
			if err != nil {
				return err
			}
			_, err = f.WriteString(config.Example())
			if err := errors.Join(err, f.Close()); err != nil {
				return err
			}
			if !a.Text() {
				return a.Say(map[string]string{"path": path})
			}
			fmt.Fprintf(a.Out, "wrote %s: `dspex config show --origin` shows the effective settings\n", cli.Word(path))
			return nil
		},
	}
}
