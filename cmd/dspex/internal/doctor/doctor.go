// Package doctor looks for what is wrong with a machine, a broker and a deployment, and reports what to do about it.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

const (
	patience    = 10 * time.Second // of one check
	leastBytes  = 1 << 20          // that a request may have at the broker
	slowBroker  = 20 * time.Millisecond
	probeFor    = time.Minute
	fewestFiles = 4096            // that a process may open
	lookFor     = 4 * time.Second // the broker does not answer what is not permitted
)

// Level is how bad a finding is.
type Level string

// The levels.
const (
	Fine    Level = "ok"
	Note    Level = "note"    // worth knowing
	Warning Level = "warning" // it works, and will not always
	Wrong   Level = "error"
	Fixed   Level = "fixed" // it was wrong, and --fix has mended it
)

// Finding is the result of one check.
type Finding struct {
	Check string `json:"check"`
	Level Level  `json:"level"`
	Text  string `json:"text"`
	Hint  string `json:"hint,omitempty"` // what to do

	Before string `json:"before,omitempty"` // of what --fix can mend
	After  string `json:"after,omitempty"`
}

type doctor struct {
	app      *cli.App
	path     string
	probe    bool
	fix      bool
	monitor  string   // address of the broker's monitoring
	profiles []string // that the file of settings names
	mayNot   []string // checks that this user may not make
	denials  denials

	interpreter string // Python's, of the file of settings or its variable

	secretFiles []string // that settings and variables name
	findings    []Finding
}

func (d *doctor) add(check string, level Level, hint, format string, args ...any) {
	d.findings = append(d.findings, Finding{Check: check, Level: level, Text: fmt.Sprintf(format, args...), Hint: hint})
}

// mend adds a finding that --fix can mend, and mends it if that is requested.
func (d *doctor) mend(f Finding, do func() error) {
	if !d.fix {
		f.Hint = cli.FirstOf(f.Hint, "`dspex doctor --fix` sets it right")
	} else if err := do(); err != nil {
		f.Text, f.Hint = fmt.Sprintf("%s; it could not be mended: %v", f.Text, err), cli.FirstOf(f.Hint, "it needs the permissions of a dispatcher, or of the file's owner")
	} else {
		f.Level, f.Hint = Fixed, ""
	}
	d.findings = append(d.findings, f)
}

func (d *doctor) fine(check, format string, args ...any) { d.add(check, Fine, "", format, args...) }

// denied reports whether a check was left out for lack of permissions, or failed, and adds that to the findings.
func (d *doctor) denied(ctx context.Context, check string, err error) bool {
	switch err = reason(ctx, err); {
	case err == nil:
		return false
	case ctx.Err() != nil && !errors.Is(err, errDenied):
		d.add(check, Warning, "", "not checked: %v", ctx.Err())
	default:
		d.mayNot = append(d.mayNot, check)
		d.add(check, Note, "an operator may check it: docs/operations.md, Permissions", "not checked: %v", err)
	}
	return true
}

// unseen reports whether a check of the broker's objects failed, and adds that to the findings.
func (d *doctor) unseen(ctx context.Context, check string, err error) bool {
	if err = reason(ctx, err); err != nil {
		d.mayNot = append(d.mayNot, check)
		d.add(check, Note, "it needs the permissions of a dispatcher: docs/operations.md, Permissions", "not checked: %v", err)
	}
	return err != nil
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

var colours = map[Level]string{Fine: cli.Green, Note: cli.Dim, Warning: cli.Yellow, Wrong: cli.Red, Fixed: cli.Green}

func (d *doctor) say() error {
	a, counts := d.app, map[Level]int{}
	for _, f := range d.findings {
		counts[f.Level]++
	}
	if !a.Text() {
		if err := a.Say(map[string]any{"ok": counts[Wrong] == 0, "findings": d.findings}); err != nil {
			return err
		}
	} else {
		d.sayText(counts)
	}
	if counts[Wrong] > 0 {
		return cli.ErrSilent
	}
	return nil
}

func (d *doctor) sayText(counts map[Level]int) {
	a, width := d.app, 0
	for _, f := range d.findings {
		width = max(width, len(f.Check))
	}
	for _, f := range d.findings {
		indent := fmt.Sprintf("%-*s  ", len(Warning)+2+width, "")
		text := func(t string) string {
			if room := a.Width(a.Out) - len(indent); room > 20 {
				t = cli.Wrap(t, room)
			}
			return strings.ReplaceAll(t, "\n", "\n"+indent)
		}
		fmt.Fprintf(a.Out, "%s  %-*s  %s\n", a.Paint(a.Out, colours[f.Level], fmt.Sprintf("%-*s", len(Warning), f.Level)), width, f.Check, text(cli.Clean(f.Text)))
		if f.Before != "" {
			fmt.Fprintf(a.Out, "%s%s\n", indent, text(cli.Clean(f.Before+" → "+f.After)))
		}
		if f.Hint != "" {
			fmt.Fprintf(a.Out, "%s%s\n", indent, a.Paint(a.Out, cli.Dim, text("→ "+f.Hint)))
		}
	}
	verdict, colour := "nothing is wrong", cli.Green
	if counts[Wrong] > 0 {
		verdict, colour = fmt.Sprintf("%d wrong", counts[Wrong]), cli.Red
	}
	if counts[Fixed] > 0 {
		verdict += fmt.Sprintf(", %d mended", counts[Fixed])
	}
	fmt.Fprintf(a.Out, "\n%s, %d to look at, %d notes\n", a.Paint(a.Out, colour, verdict), counts[Warning], counts[Note])
}
