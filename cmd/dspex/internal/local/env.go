package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/pyenv"
)

// envFlags report which directory's packages are meant, and with what interpreter.
type envFlags struct{ path, python string }

// Env is `dspex env`.
func Env(a *cli.App) *cobra.Command {
	var f envFlags
	cmd := &cobra.Command{
		Use: "env", Short: "Manage the Python packages that your modules need",
		Long: `Manage the Python packages that the modules in a directory need: those in its requirements.txt, or in the
[project] dependencies of its pyproject.toml. "dspex dev" and "worker-host" install them automatically at the start, into an
environment beside the product's; its pinned packages bind them. What runs code in dspy.PythonInterpreter (ProgramOfThought,
CodeAct, RLM) is the package deno: with it comes Pyodide.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&f.path, "path", ".", "directory of the modules")
	cmd.PersistentFlags().StringVar(&f.python, "python", "", "Python interpreter, 3.11 or newer (default: python3)")
	for _, sub := range []*cobra.Command{envAdd(a, &f), envRemove(a, &f), envSync(a, &f), envList(a, &f), cli.WithoutOutput(envShell(a, &f))} {
		cmd.AddCommand(cli.WithoutBroker(sub))
	}
	return cmd
}

// ensure makes the environment of the directory, or finds it.
func (f *envFlags) ensure(ctx context.Context, a *cli.App) (pyenv.Env, error) {
	if info, err := os.Stat(f.path); err != nil || !info.IsDir() {
		return pyenv.Env{}, cli.Usage("--path must be a directory, got %s", f.path)
	}
	path, err := filepath.Abs(f.path)
	if err != nil {
		return pyenv.Env{}, err
	}
	return pyenv.Ensure(ctx, pyenv.Config{Python: f.python, Paths: []string{path}, Progress: a.Err})
}

func envAdd(a *cli.App, f *envFlags) *cobra.Command {
	return &cobra.Command{
		Use: "add PACKAGE...", Short: "Put packages into requirements.txt and install them", Args: cobra.MinimumNArgs(1),
		Example: "  dspex env add numpy \"pandas>=2\"\n  dspex env add deno",
		RunE:    func(cmd *cobra.Command, args []string) error { return editEnv(cmd.Context(), a, f, args, nil) },
	}
}

func envRemove(a *cli.App, f *envFlags) *cobra.Command {
	return &cobra.Command{
		Use: "remove PACKAGE...", Short: "Take packages out of requirements.txt", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return editEnv(cmd.Context(), a, f, nil, args) },
	}
}

// editEnv changes the file; if what it requests then cannot be installed, it is as it was.
func editEnv(ctx context.Context, a *cli.App, f *envFlags, add, remove []string) error {
	undo, err := pyenv.Edit(f.path, add, remove)
	if err != nil {
		return err
	}
	env, err := f.ensure(ctx, a)
	if err == nil && env.OwnVenv {
		err = &cli.Failure{Status: 1, Text: "the packages of your virtual environment count here, not " + pyenv.RequirementsFile, Hint: "install them with its pip, or deactivate it"}
	}
	if err != nil {
		return errors.Join(err, undo())
	}
	return sayEnv(a, env)
}

func envSync(a *cli.App, f *envFlags) *cobra.Command {
	return &cobra.Command{
		Use: "sync", Short: "Install the packages of requirements.txt or pyproject.toml ahead of the first start", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			env, err := f.ensure(cmd.Context(), a)
			if err != nil {
				return err
			}
			return sayEnv(a, env)
		},
	}
}

func envList(a *cli.App, f *envFlags) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the packages that workers find, and where they come from", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			env, err := f.ensure(cmd.Context(), a)
			if err != nil {
				return err
			}
			return sayEnv(a, env)
		},
	}
}

// yours is where a package comes from that the product does not bring.
const yours = "yours"

// sayEnv lists the packages: of two that have the same name, workers find the product's.
func sayEnv(a *cli.App, env pyenv.Env) error {
	type line struct {
		Name    string `json:"name"`
		Version string `json:"version"`
		From    string `json:"from"`
	}
	all, seen := []line{}, map[string]bool{}
	for _, p := range pyenv.Packages(env.SitePackages) {
		all, seen[p.Name] = append(all, line{p.Name, p.Version, "dspex"}), true
	}
	for _, site := range env.Sites {
		for _, p := range pyenv.Packages(site) {
			if !seen[p.Name] {
				all = append(all, line{p.Name, p.Version, yours})
			}
		}
	}
	switch a.Output {
	case "json":
		return a.Say(all)
	case "jsonl":
		for _, p := range all {
			if err := a.Say(p); err != nil {
				return err
			}
		}
		return nil
	}
	var rows [][]string
	for _, p := range all {
		if p.From == yours {
			rows = append(rows, []string{p.Name, p.Version})
		}
	}
	if len(rows) == 0 {
		fmt.Fprintln(a.Out, "no packages of yours")
	} else {
		(&cli.Columns{App: a, Head: []string{"package", "version"}}).Write(a.Out, rows)
	}
	fmt.Fprintln(a.Err, a.Paint(a.Err, cli.Dim, fmt.Sprintf("and %d of dspex, which come first (-o json lists them)", len(seen))))
	return nil
}

func envShell(a *cli.App, f *envFlags) *cobra.Command {
	return &cobra.Command{
		Use: "shell [-- COMMAND...]", Short: "Run a shell, or a command, whose python has the workers' packages",
		Example: "  dspex env shell\n  dspex env shell -- python train.py",
		RunE: func(cmd *cobra.Command, args []string) error {
			env, err := f.ensure(cmd.Context(), a)
			if err != nil {
				return err
			}
			if len(args) == 0 {
				args = []string{cli.FirstOf(a.Env("SHELL"), "/bin/sh")}
			}
			path := env.ShellPath(a.Env("PATH"))
			program, err := exec.LookPath(args[0])
			if found := filepath.Join(strings.Split(path, string(filepath.ListSeparator))[0], args[0]); err != nil || pyenv.Executable(found) {
				program = found
			}
			sub := exec.CommandContext(cmd.Context(), program, args[1:]...)
			sub.Stdin, sub.Stdout, sub.Stderr = a.In, a.Out, a.Err
			sub.Env = append(os.Environ(), "PATH="+path, "PYTHONPATH="+env.ShellPythonPath())
			if deno := env.Deno(); deno != "" {
				sub.Env = append(sub.Env, "DENO_DIR="+deno)
			}
			err = sub.Run()
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				return &cli.Quiet{Status: exit.ExitCode()}
			}
			return err
		},
	}
}
