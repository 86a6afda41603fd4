package echolm

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Cut reports where a script breaks the connection off.
type Cut string

// The places of a cut.
const (
	CutNowhere Cut = ""
	CutAccept  Cut = "accept" // before a byte of the response
	CutHead    Cut = "head"   // behind the response header
	CutBody    Cut = "body"   // in the middle of the body
)

// Script reports how the echo misbehaves. Its text form is a list of key=value with commas between, which also is a path
// segment: /s/lat=200,status=429,ra=2,times=3/v1/chat/completions. The zero Script answers at once and well.
type Script struct {
	Latency    time.Duration // lat=MILLISECONDS: before the first byte
	TokenDelay time.Duration // tdelay=MILLISECONDS: for each delta of the answer, streamed or not
	Status     int           // status=400..599: an error instead of an answer
	RetryAfter time.Duration // ra=SECONDS: header Retry-After of that error
	Code       string        // code=WORD: code of that error, for example insufficient_quota
	Cut        Cut           // cut=accept, head or body
	Bad        bool          // bad=1: status 200 with a body that is not JSON
	Finish     string        // fin=WORD: finish_reason, for example length or content_filter
	NoUsage    bool          // nousage=1: no token counts
	Times      int           // times=N: all of it for the first N requests only, then the path is well
	Name       string        // name=WORD: no effect but a count of its own for times
}

// Bounds of a script's numbers.
const (
	maxLatency    = 10 * time.Minute
	maxTokenDelay = 10 * time.Second
	maxRetryAfter = 365 * 24 * time.Hour
	maxTimes      = 1_000_000_000
	maxScriptText = 256
)

const scriptKeys = "lat, tdelay, status, ra, code, cut, bad, fin, nousage, times, name"

// ParseScript reads the text form; "" is the zero Script. Unknown keys, keys that appear twice, values out of range and
// keys that have no effect beside the others are errors that report what was expected.
func ParseScript(s string) (Script, error) {
	var script Script
	if s == "" {
		return script, nil
	}
	if len(s) > maxScriptText {
		return script, fmt.Errorf("echo script: must have at most %d bytes, got %d", maxScriptText, len(s))
	}
	var seen []string
	for part := range strings.SplitSeq(s, ",") {
		key, value, hasValue := strings.Cut(part, "=")
		if slices.Contains(seen, key) {
			return Script{}, fmt.Errorf("echo script: key %q appears twice", key)
		}
		seen = append(seen, key)
		if !hasValue && (key == "bad" || key == "nousage") {
			value = "1"
		}
		if err := script.set(key, value); err != nil {
			return Script{}, err
		}
	}
	return script, script.check()
}

func (s *Script) set(key, value string) error {
	switch key {
	case "lat":
		return setNumber(&s.Latency, time.Millisecond, 0, maxLatency, key, value)
	case "tdelay":
		return setNumber(&s.TokenDelay, time.Millisecond, 0, maxTokenDelay, key, value)
	case "ra":
		return setNumber(&s.RetryAfter, time.Second, time.Second, maxRetryAfter, key, value)
	case "status":
		return setNumber(&s.Status, 1, 400, 599, key, value)
	case "times":
		return setNumber(&s.Times, 1, 1, maxTimes, key, value)
	case "cut":
		s.Cut = Cut(value)
		if s.Cut != CutAccept && s.Cut != CutHead && s.Cut != CutBody {
			return fmt.Errorf("echo script: cut=%q: expected accept, head or body", value)
		}
		return nil
	case "code":
		return setWord(&s.Code, key, value)
	case "fin":
		return setWord(&s.Finish, key, value)
	case "name":
		return setWord(&s.Name, key, value)
	case "bad":
		return setFlag(&s.Bad, key, value)
	case "nousage":
		return setFlag(&s.NoUsage, key, value)
	}
	return fmt.Errorf("echo script: unknown key %q: expected one of %s", key, scriptKeys)
}

func setNumber[T ~int | ~int64](to *T, unit, low, high T, key, value string) error {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < int64(low/unit) || n > int64(high/unit) {
		return fmt.Errorf("echo script: %s must be a whole number from %d to %d, got %q", key, low/unit, high/unit, value)
	}
	*to = T(n) * unit
	return nil
}

func setWord(to *string, key, value string) error {
	bad := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-'
	}
	if value == "" || len(value) > 64 || strings.ContainsFunc(value, bad) {
		return fmt.Errorf("echo script: %s must be 1 to 64 letters, digits, '_' or '-', got %q", key, value)
	}
	*to = value
	return nil
}

func setFlag(to *bool, key, value string) error {
	if value != "1" {
		return fmt.Errorf("echo script: %s=%q: expected %s=1", key, value, key)
	}
	*to = true
	return nil
}

// check refuses what is out of range or has no effect beside the other keys.
func (s Script) check() error {
	answers := s.Status == 0 && !s.Bad && s.Cut != CutAccept && s.Cut != CutHead
	for _, rule := range []struct {
		broken bool
		text   string
	}{
		{s.Status != 0 && (s.Status < 400 || s.Status > 599), "status must be from 400 to 599"},
		{s.Latency < 0 || s.Latency > maxLatency || s.TokenDelay < 0 || s.TokenDelay > maxTokenDelay, "lat or tdelay is out of range"},
		{s.RetryAfter < 0 || s.RetryAfter > maxRetryAfter || s.Times < 0, "ra or times is out of range"},
		{(s.RetryAfter > 0 || s.Code != "") && s.Status == 0, "ra and code belong to an error: add status"},
		{s.Status != 0 && (s.Cut != "" || s.Bad), "status excludes cut and bad"},
		{s.Bad && s.Cut != "", "bad excludes cut"},
		{!answers && (s.Finish != "" || s.NoUsage || s.TokenDelay > 0), "fin, nousage and tdelay need an answer: no status, bad, cut=accept or cut=head"},
		{s.Name != "" && s.Times == 0, "name has no effect without times"},
		{s.Times > 0 && s == Script{Times: s.Times, Name: s.Name}, "times has no effect alone"},
	} {
		if rule.broken {
			return fmt.Errorf("echo script: %s", rule.text)
		}
	}
	return nil
}

// String is the text form that ParseScript reads.
func (s Script) String() string {
	var parts []string
	add := func(key string, set bool, value any) {
		if set {
			parts = append(parts, fmt.Sprintf("%s=%v", key, value))
		}
	}
	add("lat", s.Latency > 0, s.Latency.Milliseconds())
	add("tdelay", s.TokenDelay > 0, s.TokenDelay.Milliseconds())
	add("status", s.Status > 0, s.Status)
	add("ra", s.RetryAfter > 0, int64(s.RetryAfter.Seconds()))
	add("code", s.Code != "", s.Code)
	add("cut", s.Cut != "", s.Cut)
	add("bad", s.Bad, 1)
	add("fin", s.Finish != "", s.Finish)
	add("nousage", s.NoUsage, 1)
	add("times", s.Times > 0, s.Times)
	add("name", s.Name != "", s.Name)
	return strings.Join(parts, ",")
}
