package top

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/insight"
)

// screen is what a picture is drawn of.
type screen struct {
	address string
	every   time.Duration
	paused  bool
	seen    *insight.History
	width   int
	height  int
	paint   func(code, text string) string
}

// draw is the picture, at most width wide and height high.
func (s screen) draw() string {
	now, ok := s.seen.Last()
	if !ok {
		return s.head("", "") + "\n"
	}
	lines := append([]string{s.head(status(now))}, s.trouble(now)...)
	lines = append(lines, "")
	lines = append(lines, s.numbers(now)...)
	lines = append(lines, "")
	lines = append(lines, s.hostRows(now)...)
	if rows := s.breakerRows(now); len(rows) > 0 {
		lines = append(append(lines, ""), rows...)
	}
	if s.height == 0 { // no terminal
		return strings.Join(lines, "\n")
	}
	if fit := max(s.height-3, 0); len(lines) > fit+1 {
		lines = append(lines[:fit], s.paint(cli.Dim, fmt.Sprintf("%d lines more", len(lines)-fit)))
	}
	return strings.Join(append(lines, "", s.foot()), "\n")
}

func (s screen) foot() string {
	if s.paused {
		return s.paint(cli.Yellow, "paused") + "   " + s.paint(cli.Dim, "q quit   p resume")
	}
	return s.paint(cli.Dim, "q quit   p pause")
}

// status is the pool's in a word, and its colour.
func status(now insight.Sample) (word, colour string) {
	switch {
	case now.Sick != nil:
		return "cannot serve", cli.Red
	case now.Health.Status == dspex.HealthHealthy:
		return string(now.Health.Status), cli.Green
	}
	return string(now.Health.Status), cli.Yellow
}

func (s screen) head(word, colour string) string {
	title := "dspex top  " + s.address
	if word == "" {
		return title + s.paint(cli.Dim, "  waiting for the first answer")
	}
	gap := max(s.width-utf8.RuneCountInString(title)-utf8.RuneCountInString(word), 2)
	return title + strings.Repeat(" ", gap) + s.paint(colour, word)
}

// trouble are the sentences that matter most.
func (s screen) trouble(now insight.Sample) (lines []string) {
	if now.Sick != nil {
		return []string{s.paint(cli.Red, s.cut(now.Sick.Error()))}
	}
	for _, reason := range now.Health.Reasons {
		lines = append(lines, s.paint(cli.Yellow, s.cut(reason)))
	}
	return lines
}

// Columns in front of the graphs.
const (
	labelWidth  = 14
	numberWidth = 10
)

// graph is the line of what changes from one sample to the next.
func (s screen) graph(name, last string, values []float64, colour string) string {
	wide := max(s.width-labelWidth-numberWidth-4, 10)
	return fmt.Sprintf("%-*s%*s  %s", labelWidth, name, numberWidth, last, s.paint(colour, bars(values, wide)))
}

func (s screen) numbers(now insight.Sample) []string {
	stats := now.Health.Stats
	rate := func(values []float64) string {
		last := 0.0
		if len(values) > 0 {
			last = values[len(values)-1]
		}
		return fmt.Sprintf("%.1f", last)
	}
	lines := []string{s.graph("requests / s", rate(s.seen.Requests), s.seen.Requests, cli.Green), s.graph("errors / s", rate(s.seen.Errors), s.seen.Errors, cli.Red)}
	line := func(name, number, text string) {
		lines = append(lines, s.cut(fmt.Sprintf("%-*s%*s  %s", labelWidth, name, numberWidth, number, text)))
	}
	if graphs := s.latency(now); graphs != nil {
		lines = append(lines, graphs...)
	} else {
		line("response time", mean(stats), "mean of all since the start")
	}
	line("sessions", strconv.Itoa(stats.ActiveSessions), fmt.Sprintf("%d of %d workers serve%s", stats.ActiveWorkers, stats.PoolSize, extra(stats.OverflowWorkers)))
	if now.Err == nil {
		busy, capacity, waiting := occupied(now.Hosts.Hosts)
		line("queue", strconv.FormatInt(waiting, 10), fmt.Sprintf("sessions with work, %d of %d slots busy", busy, capacity))
	}
	if hits := stats.AffinityHits + stats.AffinityMisses + stats.AffinityMoves; hits > 0 {
		line("affinity", fmt.Sprintf("%.1f%%", 100*float64(stats.AffinityHits)/float64(hits)), "of jobs ran where their session was warm")
	}
	return lines
}

// latency are the lines of how long jobs take now, those of published jobs once there were some; none where no host reports it.
func (s screen) latency(now insight.Sample) (lines []string) {
	known := func(mode string) bool {
		return slices.ContainsFunc(now.Hosts.Hosts, func(h dspex.HostInfo) bool { return len(h.Latency[mode]) > 0 })
	}
	both := func(name string, seen []insight.Latency) {
		last, median, high := insight.Latency{}, make([]float64, len(seen)), make([]float64, len(seen))
		for i, l := range seen {
			last, median[i], high[i] = l, l.P50.Seconds(), l.P99.Seconds()
		}
		lines = append(lines, s.graph(name+" p50", took(last, last.P50), median, cli.Cyan), s.graph(name+" p99", took(last, last.P99), high, cli.Cyan))
	}
	if known("call") {
		both("calls", s.seen.Calls)
	}
	if known("queue") {
		both("published", s.seen.Queued)
	}
	return lines
}

// took is a time of jobs that ended since the sample before, with two digits or more.
func took(of insight.Latency, d time.Duration) string {
	switch {
	case of.Jobs == 0:
		return "-"
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return cli.Span(d)
}

// occupied is what the hosts have of jobs: those that run, and sessions with jobs that run or wait.
func occupied(hosts []dspex.HostInfo) (busy, capacity int, sessions int64) {
	for _, h := range hosts {
		if h.State != dspex.HostGone {
			busy, capacity, sessions = busy+h.Capacity-h.Free, capacity+h.Capacity, sessions+h.BusySessions
		}
	}
	return busy, capacity, sessions
}

// mean is the response time; the service counts whole milliseconds.
func mean(stats dspex.Stats) string {
	switch {
	case stats.TotalRequests == 0:
		return "-"
	case stats.AverageResponseTime < time.Millisecond:
		return "< 1 ms"
	}
	return stats.AverageResponseTime.Round(time.Millisecond).String()
}

func extra(overflow int) string {
	if overflow == 0 {
		return ""
	}
	return fmt.Sprintf(", %d of them in overflow", overflow)
}

// hostRows are the worker-hosts, with their share of busy slots.
func (s screen) hostRows(now insight.Sample) []string {
	if now.Err != nil {
		return []string{s.paint(cli.Dim, s.cut("hosts and breakers are not known: "+now.Err.Error()))}
	}
	rows := [][]string{{"HOST", "STATE", "PARTITIONS", "WORKERS", "BUSY SLOTS", "", "SESSIONS", "REQUESTS / S", "ERRORS"}}
	for _, h := range now.Hosts.Hosts {
		if h.State == dspex.HostGone {
			rows = append(rows, []string{h.Host, string(h.State), strconv.Itoa(h.Partitions), "-", "-", "", "-", "-", "-"})
			continue
		}
		busy := h.Capacity - h.Free
		rows = append(rows, []string{
			h.Host, string(h.State), strconv.Itoa(h.Partitions), fmt.Sprintf("%d/%d", h.ActiveWorkers, h.PoolSize), fmt.Sprintf("%d/%d", busy, h.Capacity),
			gauge(busy, h.Capacity), strconv.FormatInt(h.ActiveSessions, 10), fmt.Sprintf("%.1f", s.seen.Hosts[h.Host]), strconv.FormatInt(h.TotalErrors, 10),
		})
	}
	lines := s.table(rows, []int{5, 8, 2, 6, 3})
	if now.Hosts.Unassigned > 0 {
		lines = append(lines, s.paint(cli.Yellow, s.cut(fmt.Sprintf("%d of %d partitions have no owner at the moment", now.Hosts.Unassigned, now.Hosts.Partitions))))
	}
	return lines
}

// breakerRows are the circuit breakers that are not closed.
func (s screen) breakerRows(now insight.Sample) []string {
	rows := [][]string{{"BREAKER", "STATE", "TRIAL IN", "LAST FAILURE"}}
	for _, b := range now.Breakers {
		if b.State == dspex.BreakerClosed {
			continue
		}
		last := ""
		if b.LastFailure != nil {
			last = b.LastFailure.What
		}
		rows = append(rows, []string{b.Name, string(b.State), cli.Span(b.RetryIn), last})
	}
	if len(rows) == 1 {
		return nil
	}
	return s.table(rows, []int{3})
}

// table aligns rows; where it is too wide, columns of least are left out, the first of them first. Numbers stand to the right.
func (s screen) table(rows [][]string, least []int) (lines []string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cli.Clean(cell)))
		}
	}
	var out []int
	total := func() (n int) {
		for i, w := range widths {
			if !slices.Contains(out, i) {
				n += w + 2
			}
		}
		return n - 2
	}
	for len(least) > 0 && s.width > 0 && total() > s.width {
		out, least = append(out, least[0]), least[1:]
	}
	for r, row := range rows {
		var cells []string
		for i, cell := range row {
			if slices.Contains(out, i) {
				continue
			}
			cell = cli.Clean(cell)
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if len(rows) > 1 && number(rows[1][i]) {
				cell, pad = pad, cell
			}
			cells = append(cells, cell+pad)
		}
		line := s.cut(strings.TrimRight(strings.Join(cells, "  "), " "))
		if r == 0 {
			line = s.paint(cli.Dim, line)
		}
		lines = append(lines, line)
	}
	return lines
}

func number(cell string) bool {
	return cell == "-" || cell != "" && strings.Trim(cell, "0123456789./") == ""
}

// cut shortens a line to the width.
func (s screen) cut(line string) string {
	line = cli.Clean(line)
	if runes := []rune(line); s.width > 0 && len(runes) > s.width {
		return string(runes[:max(s.width-1, 0)]) + "…"
	}
	return line
}

var steps = []rune("▁▂▃▄▅▆▇█")

// bars is a graph of the newest values, as high as the largest one of them.
func bars(values []float64, width int) string {
	values = values[max(0, len(values)-width):]
	if len(values) == 0 {
		return ""
	}
	most := slices.Max(values)
	var b strings.Builder
	for _, v := range values {
		at := 0
		if most > 0 && v > 0 {
			at = 1 + int(v/most*float64(len(steps)-2)+0.5)
		}
		b.WriteRune(steps[min(at, len(steps)-1)])
	}
	return b.String()
}

// gauge is a share as a bar of ten.
func gauge(part, whole int) string {
	if whole <= 0 {
		return ""
	}
	full := min((part*10+whole-1)/whole, 10)
	return strings.Repeat("█", max(full, 0)) + strings.Repeat("░", 10-max(full, 0))
}
