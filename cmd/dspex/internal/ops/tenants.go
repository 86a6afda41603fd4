package ops

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/daemon"
	"github.com/dspex/dspex/internal/tenants"
)

// tenantFlags are those of all commands about tenants.
type tenantFlags struct{ dir, pidFile string }

// Tenants is `dspex tenants`.
func Tenants(a *cli.App) *cobra.Command {
	var flags tenantFlags
	cmd := &cobra.Command{
		Use: "tenants", Short: "Add, list and remove tenants of a broker that is configured by nats.conf", Args: cobra.NoArgs,
		Long: `Keep the files that nats.conf includes: an account of the broker for each tenant, whose programs reach their own sessions, jobs
and outcomes alone. Run it where the broker's configuration is. What is changed counts when the broker reads its configuration
again, which needs no restart: --pid-file sends it the signal.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&flags.dir, "dir", "tenants", "directory of the tenants, beside nats.conf")
	cmd.AddCommand(cli.WithoutBroker(tenantsAddCommand(a, &flags)), cli.WithoutBroker(tenantsListCommand(a, &flags)), cli.WithoutBroker(tenantsRemoveCommand(a, &flags)))
	return cmd
}

func (f *tenantFlags) reload(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.pidFile, "pid-file", "", "file with the broker's process number (pid_file of nats.conf): it reads its configuration again")
}

func tenantsAddCommand(a *cli.App, flags *tenantFlags) *cobra.Command {
	var n tenants.New
	var passwordFile string
	var payload daemon.Size
	cmd := &cobra.Command{
		Use: "add NAME", Short: "Add a tenant", Args: cobra.ExactArgs(1),
		Long: `Add a tenant. Its programs connect as --user (default: the tenant's name) with the password in --password-file, which is kept
as a hash, or with an NKey whose public key is --nkey. What they may do is in rights.conf.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			n.Name, n.Limits.Payload = args[0], int64(payload)
			if n.NKey != "" && (passwordFile != "" || n.User != "") {
				return cli.Usage("--nkey excludes --user and --password-file")
			}
			if n.NKey == "" && passwordFile == "" {
				return &cli.Failure{Status: daemon.ExitUsage, Text: "--password-file or --nkey must be given", Hint: "openssl rand -hex 24 >FILE makes a password"}
			}
			if n.User == "" {
				n.User = n.Name
			}
			if passwordFile != "" {
				text, err := os.ReadFile(passwordFile)
				if err != nil {
					return cli.Usage("--password-file: %v", err)
				}
				n.Password = strings.TrimSpace(string(text))
			}
			if err := n.Check(); err != nil {
				return cli.Usage("%v", err)
			}
			if err := tenants.Add(flags.dir, n); err != nil {
				return err
			}
			return reloaded(cmd.Context(), a, flags, n.Name, "added")
		},
	}
	f := cmd.Flags()
	f.StringVar(&n.User, "user", "", "user that the tenant's programs connect as (default: the tenant's name)")
	f.StringVar(&passwordFile, "password-file", "", "file with the user's password")
	f.StringVar(&n.NKey, "nkey", "", "public key of an NKey (U...), in place of user and password")
	f.Int64Var(&n.Limits.Connections, "max-connections", 1000, "connections of the tenant's programs together (0: no bound)")
	f.Int64Var(&n.Limits.Subscriptions, "max-subscriptions", 10000, "subscriptions of the tenant's programs together (0: no bound)")
	f.Var(&payload, "max-payload", "largest message of the tenant's programs, such as 256KiB (default: the broker's own bound)")
	flags.reload(cmd)
	return cmd
}

func tenantsListCommand(a *cli.App, flags *tenantFlags) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the tenants", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			all, err := tenants.List(flags.dir)
			if err != nil {
				return err
			}
			if !a.Text() {
				return a.Say(all)
			}
			bound := func(n int64) string {
				if n == 0 {
					return "-"
				}
				return strconv.FormatInt(n, 10)
			}
			table := cli.Columns{App: a, Head: []string{"TENANT", "USERS", "CONNECTIONS", "SUBSCRIPTIONS", "PAYLOAD"}, Right: []bool{false, false, true, true, true}}
			var rows [][]string
			for _, t := range all {
				rows = append(rows, []string{cli.Word(t.Name), cli.Word(strings.Join(t.Users, " ")), bound(t.Limits.Connections), bound(t.Limits.Subscriptions), bound(t.Limits.Payload)})
			}
			table.Write(a.Out, rows)
			return nil
		},
	}
}

func tenantsRemoveCommand(a *cli.App, flags *tenantFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use: "remove NAME", Short: "Remove a tenant", Args: cobra.ExactArgs(1),
		Long: `Remove a tenant: its programs are disconnected and cannot connect again. Jobs that were accepted still run. Sessions and
outcomes stay until they expire, and are the tenant's again if one of the same name is added; erase them before if that must not be.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := tenants.CheckName(args[0]); err != nil {
				return cli.Usage("%v", err)
			}
			if err := tenants.Remove(flags.dir, args[0]); err != nil {
				return err
			}
			return reloaded(cmd.Context(), a, flags, args[0], "removed")
		},
	}
	flags.reload(cmd)
	return cmd
}

// reloaded signals the broker to read its configuration again, or reports how that is done.
func reloaded(ctx context.Context, a *cli.App, flags *tenantFlags, name, what string) error {
	reloads := flags.pidFile != ""
	if reloads {
		if err := askToReload(ctx, flags.pidFile); err != nil {
			return &cli.Failure{Status: daemon.ExitFailed, Text: fmt.Sprintf("tenant %s is %s in %s, but the broker was not signalled to reload: %v", name, what, flags.dir, err), Hint: reloadHint}
		}
	}
	if !a.Text() {
		return a.Say(map[string]any{"tenant": name, what: true, "reload_asked": reloads})
	}
	say := "the broker was signalled to reload: its log has \"Reloaded server configuration\", or the error"
	if !reloads {
		say = "it takes effect when the broker has reloaded its configuration twice: " + reloadHint
	}
	fmt.Fprintln(a.Err, a.Paint(a.Err, cli.Dim, say))
	return nil
}

const reloadHint = "`nats-server --signal reload`, in containers `docker compose kill --signal HUP nats`, a second apart"

// reloadPause lies between two signals: two that come at once are one.
const reloadPause = time.Second

// askToReload sends two signals: nats-server makes a new account when it reads its configuration, and what the account imports when it
// reads it the next time.
func askToReload(ctx context.Context, pidFile string) error {
	text, err := os.ReadFile(pidFile)
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid < 2 {
		return errors.New("the file must contain a process number")
	}
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(reloadPause):
	}
	return syscall.Kill(pid, syscall.SIGHUP)
}
