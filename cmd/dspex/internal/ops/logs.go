package ops

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/insight"
)

// Logs is `dspex logs`.
func Logs(a *cli.App) *cobra.Command {
	var f dspex.LogFilter
	var host string
	cmd := &cobra.Command{
		Use: "logs", Short: "Show the last lines of the logs of all processes, or follow them",
		Long: `Show the last lines of the logs of all live processes (dispatchers, worker-hosts, gateways of operators), in the order of their
times: level info and above, and what workers print as far as their host logs it. A process keeps 200 lines of each level. With
--follow new lines are shown until it is interrupted; processes send them only while somebody follows.

It needs the permissions of an operator.`,
		Example: `  dspex logs --level warn
  dspex logs --follow --host h1
  dspex logs --session user_123 --tail 20 -o jsonl`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case f.Tail < 0:
				return cli.Usage("--tail must be 0 or more, got %d", f.Tail)
			case !slices.Contains([]string{"info", "warn", "error"}, f.Level):
				return cli.Usage("--level must be info, warn or error, got %q", f.Level)
			case f.Follow && a.Output == "json":
				return cli.Usage("--follow never ends, and -o json is one list at the end: use -o jsonl")
			case host != "" && f.Process != "" && f.Process != "worker-host":
				return cli.Usage("--host names a worker-host: leave --process out, or use --name")
			}
			if host != "" {
				f.Process, f.Name = "worker-host", host
			}
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				if err := sayLogs(ctx, a, c.Admin(), f); err != nil {
					return err
				}
				return denied(ctx)
			})
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&f.Follow, "follow", "f", false, "keep printing new lines until interrupted")
	flags.IntVarP(&f.Tail, "tail", "n", 100, "show that many of the last lines")
	flags.StringVar(&f.Level, "level", "info", "info, warn or error: this level and above")
	flags.StringVar(&f.Process, "process", "", "only processes of this program: dispatcher, worker-host, gateway or dev")
	flags.StringVar(&f.Name, "name", "", "only processes with this name")
	flags.StringVar(&host, "host", "", "only the worker-host with this name")
	flags.StringVar(&f.Session, "session", "", "only lines about this session")
	flags.StringVar(&f.Job, "job", "", "only lines about this job")
	flags.StringVar(&f.Text, "grep", "", "only lines that have this text somewhere, in upper or lower case")
	cmd.MarkFlagsMutuallyExclusive("name", "host")
	return cmd
}

func sayLogs(ctx context.Context, a *cli.App, admin *dspex.Admin, f dspex.LogFilter) error {
	whole := []json.RawMessage{} // of --output json alone
	var ended []dspex.LogLine    // of text that ends, so that all of it is aligned
	w := &logWriter{App: a}
	for l, err := range admin.Logs(ctx, f) {
		if err != nil {
			return err
		}
		if l.Lost > 0 {
			fmt.Fprintf(a.Err, "%d lines were lost: they came faster than they were written\n", l.Lost)
		}
		switch a.Output {
		case "json":
			whole = append(whole, l.Raw)
		case "jsonl":
			if err := a.Say(l.Raw); err != nil {
				return err
			}
		default:
			w.measure(l)
			if !f.Follow {
				ended = append(ended, l)
				continue
			}
			if err := w.write(l); err != nil {
				return err
			}
		}
	}
	if a.Output == "json" {
		return a.Say(whole)
	}
	if a.Text() && !f.Follow && len(ended) == 0 {
		fmt.Fprintln(a.Err, a.Paint(a.Err, cli.Dim, "no such lines"))
	}
	for _, l := range ended {
		if err := w.write(l); err != nil {
			return err
		}
	}
	return nil
}

// logWriter writes lines below each other.
type logWriter struct {
	*cli.App
	day   string // of the line before
	names int    // the widest name of a process so far
}

// Widths of a line.
const (
	mostName  = 16 // columns of a name, after which the others move
	leastText = 40 // columns of text that are worth an indent below the others
)

// measure makes room for the name of a line.
func (w *logWriter) measure(l dspex.LogLine) {
	w.names = min(max(w.names, utf8.RuneCountInString(nameOf(l))), mostName)
}

func (w *logWriter) write(l dspex.LogLine) error {
	at := l.At.Local()
	if day := at.Format(time.DateOnly); day != w.day {
		if w.day != "" || day != time.Now().Format(time.DateOnly) {
			fmt.Fprintln(w.Out, w.Paint(w.Out, cli.Dim, day))
		}
		w.day = day
	}
	name := nameOf(l)
	text := cli.Word(insight.LineText(l))
	if width := w.Width(w.Out); width > 0 {
		text = fold(text, len("15:04:05.000  error  ")+max(w.names, utf8.RuneCountInString(name))+len("  "), width)
	}
	_, err := fmt.Fprintf(w.Out, "%s  %s  %s  %s\n", w.Paint(w.Out, cli.Dim, at.Format("15:04:05.000")),
		w.Paint(w.Out, levelColour(l.Level), fmt.Sprintf("%-5s", cli.Word(l.Level))), fmt.Sprintf("%-*s", w.names, name), text)
	return err
}

// fold breaks text, which begins at a column, so that it fits into a width. Its other lines begin at the same column if they have room.
func fold(text string, at, width int) string {
	indent := at
	if width-indent < leastText {
		indent = 4
	}
	var b strings.Builder
	column := at
	for i, word := range strings.Split(text, " ") {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case column+1+n <= width:
			b.WriteByte(' ')
			column++
		default:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			column = indent
		}
		b.WriteString(word)
		column += n
	}
	return b.String()
}

func nameOf(l dspex.LogLine) string { return cli.Word(insight.ProcessOf(l)) }

func levelColour(level string) string {
	switch level {
	case "error":
		return cli.Red
	case "warn":
		return cli.Yellow
	}
	return cli.Green
}
