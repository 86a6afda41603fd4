//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// figure is one number of the report.
type figure struct {
	Part   string    `json:"part"`
	Name   string    `json:"name"`
	Unit   string    `json:"unit,omitempty"` // "" is a ratio
	Median float64   `json:"median"`
	Values []float64 `json:"values"`
	Asked  string    `json:"asked,omitempty"` // such as "<= 1.2"
	Met    *bool     `json:"met,omitempty"`
}

// report prints tables as they come and keeps the figures.
type report struct {
	out     *tabwriter.Writer
	began   time.Time
	figures []figure
	other   []float64 // shares of the machine that others used
}

func newReport(o *options) *report {
	r := &report{out: tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0), began: time.Now()}
	sync := "default"
	if o.syncAlways {
		sync = "always"
	}
	fmt.Printf("%d processors, %s, rounds %d, slice %v, broker sync %s\n", runtime.NumCPU(), runtime.Version(), o.rounds, o.slice, sync)
	return r
}

// head begins a table.
func (r *report) head(title string, columns ...string) {
	fmt.Printf("\n%s\n", title)
	fmt.Fprintln(r.out, strings.Join(columns, "\t"))
}

func (r *report) line(cells ...string) { fmt.Fprintln(r.out, strings.Join(cells, "\t")) }

// tail ends a table.
func (r *report) tail() { _ = r.out.Flush() }

// keep notes a figure and returns its median.
func (r *report) keep(part, name, unit string, values []float64) float64 {
	m := median(values)
	r.figures = append(r.figures, figure{Part: part, Name: name, Unit: unit, Median: m, Values: values})
	return m
}

// judge notes a figure that something is asked of, and returns the cells asked, median, spread, verdict.
func (r *report) judge(part, name, unit, relation string, bound float64, values []float64) []string {
	m := median(values)
	met := m >= bound
	if relation == "<=" {
		met = m <= bound
	}
	verdict := "MISSED"
	if met {
		verdict = "met"
	}
	asked := fmt.Sprintf("%s %g", relation, bound)
	r.figures = append(r.figures, figure{Part: part, Name: name, Unit: unit, Median: m, Values: values, Asked: asked, Met: &met})
	return []string{asked, number(m), spread(values), verdict}
}

// end prints the verdicts together and writes the file.
func (r *report) end(path string) error {
	missed := 0
	r.head("What is asked", "part", "figure", "asked", "median", "spread", "")
	for _, f := range r.figures {
		if f.Met == nil {
			continue
		}
		verdict := "met"
		if !*f.Met {
			verdict = "MISSED"
			missed++
		}
		r.line(f.Part, f.Name, f.Asked+" "+f.Unit, number(f.Median), spread(f.Values), verdict)
	}
	r.tail()
	fmt.Printf("\n%d missed, %.0f s", missed, time.Since(r.began).Seconds())
	if other := median(r.other); other > 0.1 {
		fmt.Printf("; other processes used %.0f %% of the machine: rates and idle shares are theirs, too; run again on a quiet one", 100*other)
	}
	fmt.Println()
	if path == "" {
		return nil
	}
	b, err := json.MarshalIndent(map[string]any{
		"at": r.began.UTC().Format(time.RFC3339), "processors": runtime.NumCPU(), "go": runtime.Version(),
		"others_share": median(r.other), "figures": r.figures,
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// spread is the range of the values.
func spread(v []float64) string {
	if len(v) < 2 {
		return ""
	}
	return number(slices.Min(v)) + " - " + number(slices.Max(v))
}

// number shows three digits or more.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func percent(share float64) string { return fmt.Sprintf("%.0f %%", 100*share) }

// column collects one figure of many samples.
func column(samples []sample, f func(sample) float64) []float64 {
	var out []float64
	for _, s := range samples {
		out = append(out, f(s))
	}
	return out
}
