package main

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

// clean makes text of others fit for a terminal; line breaks and tabs stay.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if hostile(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}

// word is clean text on one line.
func word(text string) string { return strings.Join(strings.Fields(clean(text)), " ") }

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

// say writes v as JSON in the form that --output asks for.
func (a *app) say(v any) error {
	var buf bytes.Buffer
	encoder := json.NewEncoder(&buf)
	encoder.SetEscapeHTML(false)
	if a.output == "json" {
		encoder.SetIndent("", "  ")
	}
	if err := encoder.Encode(v); err != nil {
		return fmt.Errorf("writing JSON: %w", err)
	}
	_, err := a.out.Write(cleanJSON(buf.Bytes()))
	return err
}

func (a *app) text() bool { return a.output == "text" }

// paint colours text on a terminal that wants it.
func (a *app) paint(w io.Writer, code, text string) string {
	if !isTerminal(w) || a.env("NO_COLOR") != "" || a.env("TERM") == "dumb" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

const (
	bold  = "1"
	dim   = "2"
	red   = "31"
	green = "32"
)

// row is a name and a value of an aligned table.
type row struct{ name, value string }

// table writes aligned rows; empty values are left out, further lines of a value are indented below its first.
func (a *app) table(w io.Writer, indent string, rows []row) {
	width := 0
	for _, r := range rows {
		if r.value != "" {
			width = max(width, utf8.RuneCountInString(r.name))
		}
	}
	for _, r := range rows {
		if r.value == "" {
			continue
		}
		pad := strings.Repeat(" ", width-utf8.RuneCountInString(r.name))
		value := strings.ReplaceAll(strings.TrimRight(r.value, "\n"), "\n", "\n"+indent+strings.Repeat(" ", width+2))
		fmt.Fprintf(w, "%s%s%s  %s\n", indent, a.paint(w, dim, r.name), pad, value)
	}
}

// rowsOf are the entries of a map, in order of their names.
func rowsOf(m map[string]any) []row {
	rows := make([]row, 0, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		rows = append(rows, row{word(name), plain(m[name])})
	}
	return rows
}

// plain is a value as a person reads it: text as it is, all else as JSON.
func plain(v any) string {
	if text, ok := v.(string); ok {
		if text = clean(text); text == "" {
			return `""`
		}
		return text
	}
	var buf bytes.Buffer
	encoder := json.NewEncoder(&buf)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return clean(fmt.Sprint(v))
	}
	return string(cleanJSON(bytes.TrimSpace(buf.Bytes())))
}

// sayError tells why the program ends: as JSON where the answer would have been, or aligned for people.
func (a *app) sayError(err error, status int) {
	var e *dspex.Error
	var own *failure
	var other *quiet
	switch {
	case errors.Is(err, errSilent), errors.As(err, &other):
	case status == exitInterrupted:
		fmt.Fprintln(a.err, "dspex: interrupted")
	case errors.As(err, &e) && a.text():
		a.sayFailure(e)
	case errors.As(err, &e):
		_ = a.say(map[string]any{"ok": false, "error": e})
	case errors.As(err, &own):
		fmt.Fprintf(a.err, "%s %s\n", a.paint(a.err, red, "dspex:"), clean(own.text))
		a.table(a.err, "  ", []row{{"hint", own.hint}})
		if own.status == daemon.ExitUsage && own.hint == "" {
			fmt.Fprintln(a.err, "  `dspex help`, or --help after a command, shows what is possible")
		}
	default:
		fmt.Fprintf(a.err, "%s %s\n", a.paint(a.err, red, "dspex:"), clean(err.Error()))
	}
}

func (a *app) sayFailure(e *dspex.Error) {
	kind := []string{a.paint(a.err, red, "failed:")}
	if e.Category != "" {
		kind = append(kind, a.paint(a.err, bold, word(string(e.Category))))
	}
	fmt.Fprintln(a.err, strings.Join(append(kind, word(e.Code)), " "))
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
	a.table(a.err, "  ", []row{
		{"message", clean(e.Message)}, {"where", word(e.Path)}, {"expected", clean(e.Expected)}, {"hint", clean(e.Hint)},
		{"trying again", again}, {"job", word(e.Job.ID)}, {"attempt", attempt}, {"worker", word(e.Worker)},
		{"exception", word(e.PythonType)}, {"traceback", clean(e.Traceback)},
	})
}

// ms is a duration as people read it, without digits that mean nothing.
func ms(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	case d < 10*time.Second:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
