package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dspex/dspex/internal/insight"
)

// Columns writes rows of cells below a heading, aligned over all rows of one call; a later call goes on below, without heading
// and with columns at least as wide. Numbers stand to the right. On a terminal that is too narrow the columns of Least are left out, the
// first of them first, until the others fit.
type Columns struct {
	App    *App
	Head   []string
	Right  []bool // by column
	Least  []int
	widths []int
	out    []bool // left out
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
		c.fit(c.App.Width(w))
		fmt.Fprintln(w, c.App.Paint(w, Dim, c.line(c.Head)))
	}
	for _, row := range rows {
		fmt.Fprintln(w, c.line(row))
	}
	if first && slices.Contains(c.out, true) {
		fmt.Fprintln(c.App.Err, c.App.Paint(c.App.Err, Dim, "a wider terminal shows more columns, and -o json all"))
	}
}

// fit leaves columns out until the others fit.
func (c *Columns) fit(width int) {
	c.out = make([]bool, len(c.Head))
	for _, least := range c.Least {
		total := -len(gap)
		for i, w := range c.widths {
			if !c.out[i] {
				total += w + len(gap)
			}
		}
		if width == 0 || total <= width {
			return
		}
		c.out[least] = true
	}
}

const gap = "  " // between two columns

func (c *Columns) measure(cells []string) {
	for i, cell := range cells {
		c.widths[i] = max(c.widths[i], utf8.RuneCountInString(cell))
	}
}

func (c *Columns) line(cells []string) string {
	var b strings.Builder
	for i, cell := range cells {
		if c.out[i] {
			continue
		}
		if b.Len() > 0 {
			b.WriteString(gap)
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
func Span(d time.Duration) string { return insight.Span(d) }

// Size is a number of bytes as people read it.
func Size(n int) string { return insight.Size(n) }

// Dash stands for what is not there.
func Dash(text string) string {
	if text = Word(text); text == "" {
		return "-"
	}
	return text
}
