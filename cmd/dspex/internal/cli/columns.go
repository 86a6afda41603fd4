package cli

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// Columns writes rows of cells below a heading, aligned over all rows of one call; a later call goes on below, without heading
// and with columns at least as wide. Numbers stand to the right.
type Columns struct {
	App    *App
	Head   []string
	Right  []bool // by column
	widths []int
}

func (c *Columns) Write(w io.Writer, rows [][]string) {
	first := c.widths == nil
	if first {
		c.widths = make([]int, len(c.Head))
		c.measure(c.Head)
	}
	for _, row := range rows {
		c.measure(row)
	}
	if first {
		fmt.Fprintln(w, c.App.Paint(w, Dim, c.line(c.Head)))
	}
	for _, row := range rows {
		fmt.Fprintln(w, c.line(row))
	}
}

func (c *Columns) measure(cells []string) {
	for i, cell := range cells {
		c.widths[i] = max(c.widths[i], utf8.RuneCountInString(cell))
	}
}

func (c *Columns) line(cells []string) string {
	var b strings.Builder
	for i, cell := range cells {
		if i > 0 {
			b.WriteString("  ")
		}
		pad := strings.Repeat(" ", c.widths[i]-utf8.RuneCountInString(cell))
		if c.Right != nil && c.Right[i] {
			cell, pad = pad, cell
		}
		b.WriteString(cell + pad)
	}
	return strings.TrimRight(b.String(), " ")
}

// Span is a duration in its two largest units.
func Span(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Minute:
		return d.Truncate(time.Second).String()
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%02dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// Size is a number of bytes as people read it.
func Size(n int) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

// Dash stands for what is not there.
func Dash(text string) string {
	if text = Word(text); text == "" {
		return "-"
	}
	return text
}
