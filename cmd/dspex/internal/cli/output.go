package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/daemon"
)

// hostile reports whether a character can move the cursor, change colours or reorder text. Data comes from models and other
// people: none of it may drive the terminal.
func hostile(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) && r != '\u200d' && r != '\u200c' || r == '\u2028' || r == '\u2029'
}

// Clean makes text of others fit for a terminal; line breaks and tabs stay.
func Clean(text string) string {
	return strings.Map(func(r rune) rune {
		if hostile(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}

// Word is clean text on one line.
func Word(text string) string { return strings.Join(strings.Fields(Clean(text)), " ") }

// cleanJSON writes hostile characters, which stand in JSON only inside texts, as escapes: the value stays what it is.
func cleanJSON(b []byte) []byte {
	var out []byte
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		switch {
		case r == '\n' || !hostile(r):
			out = append(out, b[:n]...)
		case r > 0xffff:
			r -= 0x10000
			out = fmt.Appendf(out, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		b = b[n:]
	}
	return out
}

// Say writes v as JSON in the form that --output requests.
func (a *App) Say(v any) error {
	var buf bytes.Buffer
	encoder := json.NewEncoder(&buf)
	encoder.SetEscapeHTML(false)
	if a.Output == "json" {
		encoder.SetIndent("", "  ")
	}
	if err := encoder.Encode(v); err != nil {
		return fmt.Errorf("writing JSON: %w", err)
	}
	_, err := a.Out.Write(cleanJSON(buf.Bytes()))
	return err
}

// Text reports whether people read the output.
func (a *App) Text() bool { return a.Output == "text" }

// Paint colours text on a terminal that supports it.
func (a *App) Paint(w io.Writer, code, text string) string {
	if !IsTerminal(w) || a.Env("NO_COLOR") != "" || a.Env("TERM") == "dumb" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// IsTerminal reports whether w is one.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Width is how many columns a terminal has; 0 if w is none, or has no width.
func (a *App) Width(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil {
			return columns
		}
	}
	return 0
}

// Colours and weights, for Paint.
const (
	Bold   = "1"
	Dim    = "2"
	Cyan   = "36"
	Red    = "31"
	Green  = "32"
	Yellow = "33"
)

// Row is a name and a value of an aligned table.
type Row [2]string

// narrowest is the room that a column needs for its lines to be broken.
const narrowest = 20

// Table writes aligned rows; empty values are left out, further lines of a value are indented below its first.
func (a *App) Table(w io.Writer, indent string, rows []Row) {
	width := 0
	for _, r := range rows {
		if r[1] != "" {
			width = max(width, utf8.RuneCountInString(r[0]))
		}
	}
	for _, r := range rows {
		if r[1] == "" {
			continue
		}
		pad := strings.Repeat(" ", width-utf8.RuneCountInString(r[0]))
		value := strings.TrimRight(r[1], "\n")
		if room := a.Width(w) - len(indent) - width - 2; room > narrowest {
			value = Wrap(value, room)
		}
		value = strings.ReplaceAll(value, "\n", "\n"+indent+strings.Repeat(" ", width+2))
		fmt.Fprintf(w, "%s%s%s  %s\n", indent, a.Paint(w, Dim, r[0]), pad, value)
	}
}

// RowsOf are the entries of a map, in order of their names.
func RowsOf(m map[string]any) []Row {
	rows := make([]Row, 0, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		rows = append(rows, Row{Word(name), Plain(m[name])})
	}
	return rows
}

// Plain is a value as a person reads it: text as it is, all else as JSON.
func Plain(v any) string {
	if text, ok := v.(string); ok {
		if text = Clean(text); text == "" {
			return `""`
		}
		return text
	}
	var buf bytes.Buffer
	encoder := json.NewEncoder(&buf)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return Clean(fmt.Sprint(v))
	}
	return string(cleanJSON(bytes.TrimSpace(buf.Bytes())))
}

// SayError reports why the program ends: as JSON where the answer would have been, or aligned for people.
func (a *App) SayError(err error, status int) {
	var e *dspex.Error
	var own *Failure
	var other *Quiet
	switch {
	case errors.Is(err, ErrSilent), errors.As(err, &other):
	case errors.As(err, &own):
		fmt.Fprintf(a.Err, "%s %s\n", a.Paint(a.Err, Red, "dspex:"), Clean(own.Text))
		a.Table(a.Err, "  ", []Row{{"hint", own.Hint}})
		if own.Status == daemon.ExitUsage && own.Hint == "" {
			fmt.Fprintln(a.Err, "  `dspex help`, or --help after a command, shows commands and flags")
		}
	case status == ExitInterrupted:
		fmt.Fprintln(a.Err, "dspex: interrupted")
	case errors.As(err, &e) && a.Text():
		a.SayFailure(e)
	case errors.As(err, &e):
		_ = a.Say(map[string]any{"ok": false, "error": e})
	default:
		fmt.Fprintf(a.Err, "%s %s\n", a.Paint(a.Err, Red, "dspex:"), Clean(err.Error()))
	}
}

// SayFailure writes the error of a job for people, in the words of the command line.
func (a *App) SayFailure(e *dspex.Error) {
	e = inFlags(e)
	kind := []string{a.Paint(a.Err, Red, "failed:")}
	if e.Category != "" {
		kind = append(kind, a.Paint(a.Err, Bold, Word(string(e.Category))))
	}
	fmt.Fprintln(a.Err, strings.Join(append(kind, Word(e.Code)), " "))
	again := ""
	switch {
	case e.RetryAfter > 0:
		again = "in " + e.RetryAfter.String()
	case e.Retryable:
		again = "may help"
	}
	attempt := ""
	if e.Attempt > 0 {
		attempt = fmt.Sprint(e.Attempt)
	}
	a.Table(a.Err, "  ", []Row{
		{"message", Clean(e.Message)}, {"where", Word(e.Path)}, {"expected", Clean(e.Expected)}, {"hint", Clean(e.Hint)},
		{"trying again", again}, {"job", Word(e.Job.ID)}, {"attempt", attempt}, {"worker", Word(e.Worker)},
		{"exception", Word(e.PythonType)}, {"traceback", Clean(e.Traceback)},
	})
}

// Ms is a duration as people read it, without digits that mean nothing.
func Ms(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	case d < 10*time.Second:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// Setting is the line of a setting that has changed.
func Setting(key, was, is, why string) string {
	text := Clean(key)
	if is != "" {
		text += fmt.Sprintf(": %s -> %s", Clean(was), Clean(is))
	}
	if why != "" {
		text += " (" + Clean(why) + ")"
	}
	return text
}
