package dashboard

import (
	"fmt"
	"strings"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/insight"
)

// said is the one sentence that matters most now, with its level.
type said struct{ level, status, text, advice string }

// The levels, by their names in style sheets.
const (
	good    = "good"
	warning = "warning"
	bad     = "bad"
	unknown = "unknown"
)

// say chooses the sentence: what keeps jobs from running first, then what will, then what is only missing.
func say(now insight.Sample, known bool, s *series) said {
	switch {
	case !known:
		return said{unknown, "waiting", "Waiting for the first answer of the pool.", ""}
	case now.Sick != nil:
		return sick(now.Sick)
	}
	status := string(now.Health.Status)
	if b := firstOpen(now.Breakers); b != nil {
		return said{bad, status, fmt.Sprintf("The circuit breaker %s is open: calls that need it fail at once, submitted jobs wait.", b.Name),
			"It lets a trial through in " + insight.Span(b.RetryIn) + ". Breakers can be reset on their page."}
	}
	if now.Err == nil && now.Hosts.Unassigned > 0 {
		return said{bad, status, fmt.Sprintf("%d of %d partitions have no owner: their sessions wait.", now.Hosts.Unassigned, now.Hosts.Partitions), "Hosts take them over within seconds. If not, too few hosts are alive."}
	}
	if now.Health.Status != dspex.HealthHealthy && len(now.Health.Reasons) > 0 {
		return said{warning, status, capital(now.Health.Reasons[0]) + ".", more(len(now.Health.Reasons) - 1)}
	}
	if now.Health.Status != dspex.HealthHealthy {
		return said{warning, status, "The pool serves, but something is missing.", "Operators see what."}
	}
	if full := last(s.capacity); full > 0 && last(s.busy) >= full {
		return said{warning, status, fmt.Sprintf("All %.0f slots are busy, and %.0f sessions have work.", full, last(s.working)), "More workers or hosts add slots."}
	}
	return said{good, status, "Everything works: jobs run, and nothing holds them.", ""}
}

func sick(err error) said {
	text, hint := err.Error(), ""
	if e := asError(err); e != nil {
		text, hint = e.Message, e.Hint
	}
	return said{bad, "cannot serve", capital(text) + ".", hint}
}

func firstOpen(list []dspex.Breaker) *dspex.Breaker {
	for i, b := range list {
		if b.State == dspex.BreakerOpen {
			return &list[i]
		}
	}
	return nil
}

func capital(text string) string {
	text = strings.TrimSuffix(text, ".")
	if text == "" {
		return "It failed"
	}
	return strings.ToUpper(text[:1]) + text[1:]
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
