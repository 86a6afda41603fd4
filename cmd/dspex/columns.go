package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// columns writes rows of cells below a heading, aligned over all rows of one call; a later call goes on below, without heading
// and with columns at least as wide. Numbers stand to the right.
type columns struct {
	app    *app
	head   []string
	right  []bool // by column
	widths []int
}

func (c *columns) write(w io.Writer, rows [][]string) {
	first := c.widths == nil
	if first {
		c.widths = make([]int, len(c.head))
		c.measure(c.head)
	}
	for _, row := range rows {
		c.measure(row)
	}
	if first {
		fmt.Fprintln(w, c.app.paint(w, dim, c.line(c.head)))
	}
	for _, row := range rows {
		fmt.Fprintln(w, c.line(row))
	}
}

func (c *columns) measure(cells []string) {
	for i, cell := range cells {
		c.widths[i] = max(c.widths[i], utf8.RuneCountInString(cell))
	}
}

func (c *columns) line(cells []string) string {
	var b strings.Builder
	for i, cell := range cells {
		if i > 0 {
			b.WriteString("  ")
		}
		pad := strings.Repeat(" ", c.widths[i]-utf8.RuneCountInString(cell))
		if c.right != nil && c.right[i] {
			cell, pad = pad, cell
		}
		b.WriteString(cell + pad)
	}
	return strings.TrimRight(b.String(), " ")
}

// span is a duration in its two largest units.
func span(d time.Duration) string {
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

// size is a number of bytes as people read it.
func size(n int) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

// dash stands for what is not there.
func dash(text string) string {
	if text = word(text); text == "" {
		return "-"
	}
	return text
}
