package cli

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// widest is how wide help is at most: longer lines are hard to read.
const widest = 120

// WrapHelp has help fit the terminal. Without a terminal its lines are as long as they are.
func WrapHelp(a *App, root *cobra.Command) {
	width := func() int { return min(a.Width(a.Out), widest) }
	cobra.AddTemplateFunc("flagsOf", func(f *pflag.FlagSet) string { return f.FlagUsagesWrapped(width()) })
	cobra.AddTemplateFunc("wrapped", func(text string) string { return Wrap(text, width()) })
	root.SetHelpTemplate(`{{with (or .Long .Short)}}{{. | trimTrailingWhitespaces | wrapped}}

{{end}}{{if or .Runnable .HasSubCommands}}{{.UsageString}}{{end}}`)
	usage := root.UsageTemplate()
	usage = strings.ReplaceAll(usage, ".LocalFlags.FlagUsages", "flagsOf .LocalFlags")
	usage = strings.ReplaceAll(usage, ".InheritedFlags.FlagUsages", "flagsOf .InheritedFlags")
	cobra.AddTemplateFunc("commandLine", func(c *cobra.Command) string { return commandLine(c.Name(), c.NamePadding(), c.Short, width()) })
	usage = strings.ReplaceAll(usage, "{{rpad .Name .NamePadding }} {{.Short}}", "{{commandLine .}}")
	root.SetUsageTemplate(usage)
}

// commandLine is a command in the list of its parent, which indents it by two.
func commandLine(name string, padding int, short string, width int) string {
	indent := 2 + padding + 1
	if width > indent+leastText {
		short = strings.ReplaceAll(Wrap(short, width-indent), "\n", "\n"+strings.Repeat(" ", indent))
	}
	return fmt.Sprintf("%-*s %s", padding, name, short)
}

// leastText is the room that is worth wrapping a text into.
const leastText = 20

// Wrap breaks the lines of paragraphs so that they fit into a width; indented lines stay. With width 0 it changes nothing.
func Wrap(text string, width int) string {
	if width <= 0 {
		return text
	}
	var out []string
	at := -1 // the line that words are added to
	for line := range strings.SplitSeq(text, "\n") {
		if line == "" || strings.HasPrefix(line, " ") {
			out, at = append(out, line), -1
			continue
		}
		for word := range strings.FieldsSeq(line) {
			if at >= 0 && utf8.RuneCountInString(out[at])+1+utf8.RuneCountInString(word) <= width {
				out[at] += " " + word
				continue
			}
			out = append(out, word)
			at = len(out) - 1
		}
	}
	return strings.Join(out, "\n")
}
