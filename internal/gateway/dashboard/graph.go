package dashboard

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/insight"
)

// shown is the number of seconds that the graphs show.
const shown = 120

// series are the values of the graphs, a value each second, the newest last.
type series struct {
	median, high, waited    []float64 // ms
	busy, capacity, working []float64
}

// add takes a sample and the attempts of its second in.
func (s *series) add(one insight.Sample, second second) {
	busy, capacity, working := 0, 0, int64(0)
	for _, h := range one.Hosts.Hosts {
		busy, capacity, working = busy+h.Capacity-h.Free, capacity+h.Capacity, working+h.BusySessions
	}
	keep := func(list *[]float64, v float64) {
		if *list = append(*list, v); len(*list) > shown {
			*list = slices.Delete(*list, 0, len(*list)-shown)
		}
	}
	keep(&s.median, quantile(second.Ran, 0.5))
	keep(&s.high, quantile(second.Ran, 0.95))
	keep(&s.waited, quantile(second.Waited, 0.95))
	keep(&s.busy, float64(busy))
	keep(&s.capacity, float64(capacity))
	keep(&s.working, float64(working))
}

// quantile of values, which it sorts; 0 for none.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[min(int(q*float64(len(values))), len(values)-1)]
}

// live is what moves on a page: texts, lines of graphs and states by their names.
type live struct {
	Text  map[string]string `json:"text"`
	Path  map[string]string `json:"path,omitempty"`
	State map[string]string `json:"state"`
	HTML  string            `json:"html,omitempty"` // of the page's live part
}

// graph adds a graph with one or two lines of the same scale.
func (l *live) graph(name, now, most string, lines ...[]float64) {
	top := 0.0
	for _, values := range lines {
		top = max(top, slices.Max(append(values, 0)))
	}
	for i, values := range lines {
		line := curve(values, top)
		l.Path[name+"-"+strconv.Itoa(i)] = line
		if i == 0 {
			l.Path[name+"-area"] = area(line, len(values))
		}
	}
	l.Text[name], l.Text[name+"-most"] = now, most
}

// The size of a graph in units of its picture.
const wide, high = 240.0, 60.0

// curve is a line through the values, the newest at the right.
func curve(values []float64, top float64) string {
	if len(values) < 2 {
		return ""
	}
	var b strings.Builder
	for i, v := range values {
		y := high - 1
		if top > 0 {
			y = high - 1 - v/top*(high-4)
		}
		b.WriteString(map[bool]string{true: "M", false: "L"}[i == 0])
		b.WriteString(strconv.FormatFloat(across(i, len(values)), 'f', 0, 64))
		b.WriteByte(' ')
		b.WriteString(strconv.FormatFloat(math.Round(y*10)/10, 'f', -1, 64))
	}
	return b.String()
}

func across(i, n int) float64 { return wide - float64(n-1-i)*wide/float64(shown-1) }

// area is what lies below a line.
func area(line string, n int) string {
	if line == "" {
		return ""
	}
	return fmt.Sprintf("%sL%.0f %.0fL%.0f %.0fZ", line, wide, high, across(0, n), high)
}

func perSecond(v float64) string {
	if v > 0 && v < 9.95 {
		return fmt.Sprintf("%.1f", v)
	}
	return count(int64(math.Round(v)))
}

// count is a number with its thousands apart.
func count(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// milliseconds is a duration as people read it.
func milliseconds(ms float64) string {
	switch {
	case ms <= 0:
		return "–"
	case ms < 0.1:
		return "< 0.1 ms"
	case ms < 10:
		return fmt.Sprintf("%.1f ms", ms)
	case ms < 1000:
		return fmt.Sprintf("%.0f ms", ms)
	case ms < 60_000:
		return fmt.Sprintf("%.1f s", ms/1000)
	}
	return insight.Span(time.Duration(ms) * time.Millisecond)
}

func tailOf(values []float64) []float64 { return slices.Clone(values[max(0, len(values)-shown):]) }

func lastOf(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	return values[len(values)-1]
}

// newest is the last value that is not 0 of the last ten seconds: a second without attempts has no latency.
func newest(values []float64) float64 {
	for _, v := range slices.Backward(values[max(0, len(values)-10):]) {
		if v > 0 {
			return v
		}
	}
	return 0
}

// bar is a part of a timeline, in thousandths of its width.
type bar struct {
	X, W  int
	Kind  string
	Label string
}

// timeline is where a job's time went.
type timeline struct {
	Bars  []bar
	Total string
}

// piece is a part of a job's time.
type piece struct {
	ms    float64
	kind  string
	label string
}

// pieces are where a job's time went: its attempts, and the waits before them. from is when it was accepted, zero if that is not known.
func pieces(attempts []attempt, queued time.Duration, from, now time.Time) (all []piece) {
	for _, a := range attempts {
		kind, ran := "ran", time.Duration(a.Ran*float64(time.Millisecond))
		start := a.At.Add(-ran)
		switch {
		case a.Running:
			kind, start, ran = "running", a.At, now.Sub(a.At)
		case a.Failed():
			kind = "failed"
		}
		wait := time.Duration(a.Waited * float64(time.Millisecond))
		switch {
		case !from.IsZero() && !a.At.IsZero():
			wait = start.Sub(from)
		case len(attempts) == 1 && queued > 0:
			wait = queued
		}
		if wait >= time.Millisecond {
			ms := float64(wait.Microseconds()) / 1000
			all = append(all, piece{ms, "wait", "waited " + milliseconds(ms)})
		}
		if ms := float64(ran.Microseconds()) / 1000; ms > 0 || a.Failed() {
			all = append(all, piece{ms, kind, strings.TrimSuffix("attempt "+strconv.Itoa(a.Number)+" "+kind+" "+milliseconds(ms), " –")})
		}
		if from = a.At; a.Running {
			from = now
		}
	}
	return all
}

// lineOf draws the pieces of a job's time.
func lineOf(all []piece) timeline {
	total, wide := 0.0, 0.0
	for _, p := range all {
		total += p.ms
	}
	if len(all) == 0 {
		return timeline{}
	}
	widths := make([]float64, len(all))
	for i, p := range all {
		widths[i] = 12 // what is short is seen, too
		if total > 0 {
			widths[i] = max(p.ms/total*1000, 12)
		}
		wide += widths[i]
	}
	line, x := timeline{Total: milliseconds(total)}, 0.0
	for i, p := range all {
		w := widths[i] * 1000 / wide
		line.Bars = append(line.Bars, bar{int(x), int(x+w) - int(x), p.kind, p.label})
		x += w
	}
	return line
}
