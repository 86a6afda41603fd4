package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
)

// Bounds of a completion: a shell waits for it.
const (
	completeFor  = 2 * time.Second
	completeMost = 100
)

// names lists what a deployment has, for a shell.
type names func(ctx context.Context, c *dspex.Client, typed string) []string

// named are the commands whose argument is one of them, by their path below the program.
var named = map[string]names{
	"jobs get": jobNames, "jobs wait": jobNames, "jobs cancel": jobNames, "jobs explain": jobNames,
	"sessions get": sessionNames, "sessions cleanup": sessionNames, "sessions erase": sessionNames, "sessions export": sessionNames,
	"hosts drain": hostNames, "hosts resume": hostNames, "reload": hostNames, "breakers reset": breakerNames,
}

// Complete adds to all commands below root what a shell completes: names of the deployment, and no files where none are expected.
func Complete(a *App, root *cobra.Command) {
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json", "jsonl"}, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	var walk func(c *cobra.Command, path string)
	walk = func(c *cobra.Command, path string) {
		list, is := named[path]
		switch {
		case c.ValidArgsFunction != nil:
		case is:
			c.ValidArgsFunction = a.completion(list, path != "reload")
		case !strings.Contains(c.Use, "FILE") && !strings.Contains(c.Use, "DIR"):
			c.ValidArgsFunction = cobra.NoFileCompletions
		}
		for flag, list := range map[string]names{"session": sessionNames, "host": hostNames} {
			if c.Flags().Lookup(flag) != nil {
				_ = c.RegisterFlagCompletionFunc(flag, a.completion(list, false)) // the flag is there
			}
		}
		for _, below := range c.Commands() {
			walk(below, strings.TrimSpace(path+" "+below.Name()))
		}
	}
	walk(root, "")
}

// completion lists what the deployment has, for the first argument alone if there is only one. What cannot be reached completes nothing.
func (a *App) completion(list names, one bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, given []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if one && len(given) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completeFor)
		defer cancel()
		of := *a
		of.ServerGiven = cmd.Flags().Changed("server")
		c, err := of.Connect(ctx, "completion", func(error) { cancel() })
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer c.Close()
		var fit []cobra.Completion
		for _, name := range list(ctx, c, typed) {
			if strings.HasPrefix(name, typed) && len(fit) < completeMost {
				fit = append(fit, Clean(name))
			}
		}
		return fit, cobra.ShellCompDirectiveNoFileComp
	}
}

func jobNames(ctx context.Context, c *dspex.Client, _ string) (found []string) {
	for job, err := range c.Admin().Jobs(ctx, dspex.JobFilter{Limit: 10 * completeMost}) {
		if err != nil {
			return found
		}
		about := string(job.Status)
		if job.Session != "" {
			about += ", session " + job.Session
		}
		found = append(found, job.ID+"\t"+about)
	}
	return found
}

func sessionNames(ctx context.Context, c *dspex.Client, typed string) (found []string) {
	for s, err := range c.Admin().Sessions(ctx, dspex.SessionFilter{Prefix: typed, Limit: completeMost}) {
		if err != nil {
			return found
		}
		found = append(found, s.ID)
	}
	return found
}

func hostNames(ctx context.Context, c *dspex.Client, _ string) (found []string) {
	hosts, _ := c.Admin().Hosts(ctx) // none if it cannot be read
	for _, h := range hosts.Hosts {
		found = append(found, h.Host+"\t"+string(h.State))
	}
	return found
}

func breakerNames(ctx context.Context, c *dspex.Client, _ string) (found []string) {
	breakers, _ := c.Admin().Breakers(ctx)
	for _, b := range breakers {
		found = append(found, b.Name+"\t"+string(b.State))
	}
	return found
}
