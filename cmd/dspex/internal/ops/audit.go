package ops

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// Audit is `dspex audit`.
func Audit(a *cli.App) *cobra.Command {
	var f dspex.AuditFilter
	cmd := &cobra.Command{
		Use: "audit", Short: "List operators' actions, and requests refused for lack of the role",
		Long: `List the audit trail, the oldest record first: what operators did, what operators of tenants did, and what clients were refused
for want of the role. A record has names, numbers and the hash of the request, never its contents.`,
		Example: `  dspex audit --since 72h --action hosts.drain
  dspex audit --follow -o jsonl`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case f.NewerThan < 0:
				return cli.Usage("--since must be 0 (all) or more, got %s", f.NewerThan)
			case f.Role != "" && f.Role != "operator" && f.Role != "tenant" && f.Role != "client":
				return cli.Usage("--role must be operator, tenant or client, got %q", f.Role)
			case f.Follow && a.Output == "json":
				return cli.Usage("--follow never ends, and -o json is one list at the end: use -o jsonl")
			}
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				return sayAudit(ctx, a, c.Admin(), f)
			})
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&f.NewerThan, "since", 24*time.Hour, "only records that are newer than this; 0: all")
	flags.StringVar(&f.Action, "action", "", "only this action, such as sessions.erase or call.set_lm")
	flags.StringVar(&f.Tenant, "tenant", "", "only records about this tenant")
	flags.StringVar(&f.Role, "role", "", "only actions of this role: operator, tenant or client")
	flags.BoolVarP(&f.Follow, "follow", "f", false, "keep printing new records until interrupted")
	return cmd
}

func sayAudit(ctx context.Context, a *cli.App, admin *dspex.Admin, f dspex.AuditFilter) error {
	list := cli.Listing[dspex.AuditRecord]{Row: auditRow, None: "no such records", Raw: func(r dspex.AuditRecord) json.RawMessage { return r.Raw }, Table: cli.Columns{
		App: a, Head: []string{"AT", "ROLE", "WHO", "TENANT", "ACTION", "OUTCOME", "ARGUMENTS"},
	}}
	if !f.Follow || !a.Text() {
		return list.Say(a, admin.Audit(ctx, f), 0)
	}
	for r, err := range admin.Audit(ctx, f) { // each at once
		if err != nil {
			return err
		}
		list.Table.Write(a.Out, [][]string{auditRow(r)})
	}
	return nil
}

func auditRow(r dspex.AuditRecord) []string {
	who := r.Who.User
	if who == "" {
		who = r.Who.Account
	}
	if r.Who.Host != "" {
		who += "@" + r.Who.Host
	}
	outcome := r.Outcome
	if r.Error != nil {
		outcome += " " + r.Error.Code
	}
	if r.Job != "" {
		outcome += " " + r.Job
	}
	var args []string
	for _, key := range slices.Sorted(maps.Keys(r.Args)) {
		args = append(args, fmt.Sprintf("%s=%v", key, r.Args[key]))
	}
	return []string{r.At.Local().Format(time.DateTime), cli.Dash(r.Role), cli.Dash(who), cli.Dash(r.Tenant), cli.Dash(r.Action), cli.Dash(outcome), cli.Dash(strings.Join(args, " "))}
}
