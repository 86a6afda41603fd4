package config

import (
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/fair"
)

// rule is what a value must be, as far as that can be judged without the program: a file is judged as a whole, with places, and editors
// know it from the schema. Programs judge their flags themselves; a test compares both.
type rule struct {
	words       []string // one of them
	least, most float64  // of numbers
	above       bool     // least itself is too little
	from, to    time.Duration
	never       bool // 0 is allowed beside, and means never
	pattern     *regexp.Regexp
	like        string // an example of the pattern
	address     bool   // HOST:PORT
	none        bool   // or the word none
	weights     bool   // of tenants
}

const day = 24 * time.Hour

var (
	oneOf   = func(words ...string) rule { return rule{words: words} }
	between = func(least, most float64) rule { return rule{least: least, most: most} }
	lasting = func(from, to time.Duration) rule { return rule{from: from, to: to} }
	bytes   = rule{pattern: regexp.MustCompile(`^[1-9][0-9]*(KiB|MiB|GiB|TiB)$`), like: "512MiB or 4GiB"}
	address = rule{address: true}
	weights = rule{weights: true}
)

// years stand for no bound.
const years = 100 * 365 * day

var rules = map[string]rule{
	PoolMode:        oneOf(Modes...),
	"engine":        oneOf("dspy", "stub"),
	"start":         oneOf("zygote", "spawn"),
	"sandbox":       oneOf("auto", "none", "user", "strict"),
	"sandbox-min":   oneOf("none", "user", "strict"),
	"log-level":     oneOf("debug", "info", "warn", "error"),
	"log-format":    oneOf("text", "json"),
	"test-mode":     oneOf("mock_adapter", "bridge_mock", "full_integration"),
	"worker-module": oneOf("enhanced", "basic", "PoolWorkerV2Enhanced", "PoolWorkerV2", "DSPex.PythonBridge.PoolWorkerV2Enhanced", "DSPex.PythonBridge.PoolWorkerV2"),

	"alert-destinations": oneOf("logger", "telemetry", "webhook"),

	"workers":           between(1, 256),
	"slots":             between(1, 1024),
	"overflow":          between(0, 256),
	"recycle-jobs":      between(0, 1<<53),
	"recycle-mib":       between(0, 1<<22),
	"max-mib":           between(0, 1<<22),
	"health-failures":   between(1, 100),
	"breaker-failures":  between(1, 1000),
	"breaker-successes": between(1, 1000),
	"partitions":        between(0, 250),
	"replicas":          oneOf("1", "3", "5"),
	"session-queue":     between(1, 1024),
	"traces-ratio":      between(0, 1),

	"error-rate-threshold": {most: 1, above: true},

	"checkout-timeout":  lasting(1, years),
	"session-idle":      lasting(1, years),
	"grace":             lasting(1, years),
	"operation-timeout": lasting(time.Millisecond, day),
	"breaker-timeout":   lasting(1, time.Hour),
	"health-interval":   lasting(100*time.Millisecond, time.Hour),
	"ping-timeout":      lasting(100*time.Millisecond, time.Hour),
	"recycle-age":       {from: time.Minute, to: years, never: true},
	"results-min-age":   {from: 15 * time.Minute, to: day, never: true},

	"jobs-size": bytes, "results-size": bytes, "dlq-size": bytes, "batches-size": bytes, "objects-size": bytes, "object-max": bytes, "tenant-objects": bytes,

	"listen": address, "metrics": address, "gateway.listen": address, "http": {address: true, none: true},

	"tenant-weights": weights,

	"gateway.max-body": between(1024, 64<<20), "gateway.max-requests": between(1, 1<<20),
}

// judge is why a value must not be that, nil if it may.
func judge(flag, text string) error {
	r, is := rules[flag]
	switch {
	case !is:
		return nil
	case r.words != nil && kindOf(flag) == "strings":
		for one := range strings.SplitSeq(text, ",") {
			if !slices.Contains(r.words, one) {
				return fmt.Errorf("must be some of %s, got %q", list(r.words, "and"), one)
			}
		}
	case r.words != nil && !slices.Contains(r.words, text):
		return fmt.Errorf("must be %s, got %q", list(r.words, "or"), text)
	case r.to != 0:
		return r.lasts(text)
	case r.most != 0:
		if n, err := strconv.ParseFloat(text, 64); err != nil || !(n >= r.least && n <= r.most) || r.above && n == r.least {
			return fmt.Errorf("must be %s, got %s", r.bounds(), text)
		}
	case r.pattern != nil && !r.pattern.MatchString(text):
		return fmt.Errorf("must be a whole number and a unit, such as %s, got %q", r.like, text)
	case r.address && !(r.none && text == "none"):
		if _, _, err := net.SplitHostPort(text); err != nil {
			return fmt.Errorf("must be HOST:PORT, got %q", text)
		}
	case r.weights:
		return new(fair.Weights).Set(text)
	}
	return nil
}

func (r rule) bounds() string {
	least, most := strconv.FormatFloat(r.least, 'f', -1, 64), strconv.FormatFloat(r.most, 'f', -1, 64)
	switch {
	case r.above:
		return "more than " + least + " and at most " + most
	case r.most >= 1<<53:
		return least + " or more"
	}
	return least + " to " + most
}

func (r rule) lasts(text string) error {
	d, err := time.ParseDuration(text)
	if err == nil && (d >= r.from && d <= r.to || r.never && d == 0) {
		return nil
	}
	want := "more than 0"
	switch {
	case r.from > 1 && r.to < years:
		want = short(r.from) + " to " + short(r.to)
	case r.from > 1:
		want = "at least " + short(r.from)
	case r.to < years:
		want += " and at most " + short(r.to)
	}
	if r.never {
		want = "0 (never) or " + want
	}
	return fmt.Errorf("must be %s, got %s", want, short(d))
}

// short is a duration without the parts that are zero.
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func list(words []string, last string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " " + last + " " + words[len(words)-1]
}

// describe adds to a schema what the rule has for it.
func (r rule) describe(of map[string]any, kind string) {
	switch {
	case r.words != nil && kind == "strings":
		of["oneOf"] = []any{map[string]any{"type": "string"}, map[string]any{"type": "array", "items": map[string]any{"enum": r.words}, "uniqueItems": true}}
	case r.words != nil && kind == "int":
		numbers := make([]int, len(r.words))
		for i, w := range r.words {
			numbers[i], _ = strconv.Atoi(w)
		}
		of["enum"] = numbers
	case r.words != nil:
		of["type"], of["enum"] = "string", r.words
	case r.most != 0:
		edge := "minimum"
		if r.above {
			edge = "exclusiveMinimum"
		}
		of[edge], of["maximum"] = r.least, r.most
	case r.pattern != nil:
		of["type"], of["pattern"] = "string", r.pattern.String()
	case r.weights:
		of["type"], of["maxProperties"] = []string{"string", "object"}, fair.MaxWeights
		of["additionalProperties"] = map[string]any{"type": "integer", "minimum": 1, "maximum": fair.MaxWeight}
	}
}

// Words are the values of flags that have one of some.
func Words() map[string][]string {
	all := map[string][]string{}
	for flag, r := range rules {
		if r.words != nil {
			all[flag] = r.words
		}
	}
	return all
}

// Refused are values that a file must not have for these flags. Programs must refuse them as well.
func Refused() map[string]string {
	values := map[string]string{}
	for flag, r := range rules {
		switch {
		case r.words != nil && kindOf(flag) == "int":
			values[flag] = "2"
		case r.to != 0:
			values[flag] = (r.from - 1 - time.Millisecond).String()
		case r.most != 0:
			values[flag] = strconv.FormatFloat(r.least-1, 'f', -1, 64)
		default:
			values[flag] = "no-such-value"
		}
	}
	return values
}
