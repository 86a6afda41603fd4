package dashboard

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/insight"
)

// figures are those of the newest sample. The watch is locked, or not yet shared.
func figures(w *watch) *live {
	l := &live{Text: map[string]string{}, Path: map[string]string{}, State: map[string]string{}}
	now, ok := w.seen.Last()
	top := headlineOf(now, ok, &w.series)
	l.Text["status"], l.State["status"] = top.status, top.level
	l.Text["sentence"], l.Text["advice"], l.State["sentence"] = top.text, top.advice, top.level
	stats := now.Health.Stats
	l.Text["workers"] = fmt.Sprintf("%d of %d", stats.ActiveWorkers, stats.PoolSize)
	l.Text["sessions"], l.Text["total"], l.Text["failed"] = count(int64(stats.ActiveSessions)), count(stats.TotalRequests), count(stats.TotalErrors)
	l.Text["uptime"], l.Text["engine"] = insight.Span(stats.Uptime), stats.Engine
	l.Text["mean"] = milliseconds(float64(stats.AverageResponseTime.Milliseconds()))
	l.Text["affinity"] = "–"
	if all := stats.AffinityHits + stats.AffinityMisses + stats.AffinityMoves; all > 0 {
		l.Text["affinity"] = fmt.Sprintf("%.1f %%", 100*float64(stats.AffinityHits)/float64(all))
	}
	s := &w.series
	requests, errors := tailOf(w.seen.Requests), tailOf(w.seen.Errors)
	l.graph("requests", perSecond(lastOf(requests)), perSecond(slices.Max(append(requests, 0))), requests)
	l.graph("errors", perSecond(lastOf(errors)), perSecond(slices.Max(append(errors, 0))), errors)
	if w.scope.fleet() && w.source.allowed() {
		l.graph("latency", milliseconds(newest(s.median)), milliseconds(slices.Max(append(s.high, 0))), s.median, s.high)
		l.Text["latency-high"] = milliseconds(newest(s.high))
		l.graph("queue", count(int64(lastOf(s.working))), count(int64(slices.Max(slices.Concat(s.working, s.busy, []float64{0})))), s.working, s.busy)
		l.Text["slots"], l.Text["waited"] = fmt.Sprintf("%.0f of %.0f", lastOf(s.busy), lastOf(s.capacity)), milliseconds(newest(s.waited))
	}
	l.Text["hosts"], l.Text["breakers"] = "–", "–"
	if now.Err == nil && ok {
		alive, open := 0, 0
		for _, h := range now.Hosts.Hosts {
			if h.State != dspex.HostGone {
				alive++
			}
		}
		for _, b := range now.Breakers {
			if b.State != dspex.BreakerClosed {
				open++
			}
		}
		l.Text["hosts"], l.Text["breakers"] = strconv.Itoa(alive), strconv.Itoa(open)
	}
	return l
}

// headline is the one sentence that matters most now, with its level.
type headline struct{ level, status, text, advice string }

// The levels, by their names in style sheets.
const (
	good    = "good"
	warning = "warning"
	bad     = "bad"
	unknown = "unknown"
)

// headlineOf chooses the sentence: what keeps jobs from running first, then what will, then what is only missing.
func headlineOf(now insight.Sample, known bool, s *series) headline {
	switch {
	case !known:
		return headline{unknown, "waiting", "Waiting for the first answer of the pool.", ""}
	case now.Sick != nil:
		return sick(now.Sick)
	}
	status := string(now.Health.Status)
	if b := firstOpen(now.Breakers); b != nil {
		return headline{bad, status, fmt.Sprintf("The circuit breaker %s is open: calls that need it fail at once, submitted jobs wait.", b.Name),
			"It lets a trial through in " + insight.Span(b.RetryIn) + ". Breakers can be reset on their page."}
	}
	if now.Err == nil && now.Hosts.Unassigned > 0 {
		return headline{bad, status, fmt.Sprintf("%d of %d partitions have no owner: their sessions wait.", now.Hosts.Unassigned, now.Hosts.Partitions), unassigned(now.Health.Reasons)}
	}
	if now.Health.Status != dspex.HealthHealthy && len(now.Health.Reasons) > 0 {
		return headline{warning, status, capital(now.Health.Reasons[0]) + ".", more(len(now.Health.Reasons) - 1)}
	}
	if now.Health.Status != dspex.HealthHealthy {
		return headline{warning, status, "The pool serves, but something is missing.", "Operators see what."}
	}
	if full := lastOf(s.capacity); full > 0 && lastOf(s.busy) >= full {
		return headline{warning, status, fmt.Sprintf("All %.0f slots are busy, and %.0f sessions have work.", full, lastOf(s.working)), "More workers or hosts add slots."}
	}
	return headline{good, status, "Everything works: jobs run, and nothing holds them.", ""}
}

// unassigned is what is known about partitions without owner: another reason than this, if there is one.
func unassigned(reasons []string) string {
	for _, reason := range reasons {
		if strings.Contains(reason, "assigns nothing") {
			return capital(reason) + "."
		}
	}
	return "Hosts take them over within seconds. If not, too few hosts are alive."
}

func sick(err error) headline {
	text, hint := err.Error(), ""
	if e := asError(err); e != nil {
		text, hint = e.Message, e.Hint
	}
	return headline{bad, "cannot serve", capital(text) + ".", hint}
}

func firstOpen(list []dspex.Breaker) *dspex.Breaker {
	for i, b := range list {
		if b.State == dspex.BreakerOpen {
			return &list[i]
		}
	}
	return nil
}

func more(n int) string {
	switch n {
	case 0:
		return ""
	case 1:
		return "One more thing is wrong."
	}
	return fmt.Sprintf("%d more things are wrong.", n)
}
