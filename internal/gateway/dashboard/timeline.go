package dashboard

import (
	"strconv"
	"strings"
	"time"
)

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
