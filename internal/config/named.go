package config

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
)

// texts are flags that name a file of JSON.
var texts = []string{"lm", "job-defaults", "tenant-quotas", "gateway.tokens", "scenario"}

// About is a problem with a setting, at the place that the words of what name most of the way to: below the setting, or in the file that it
// names.
func (f *File) About(s Setting, what, text string) Problem {
	_, inline := f.inline[s.Flag]
	if !slices.Contains(texts, s.Flag) || inline || strings.HasPrefix(strings.TrimSpace(s.Text), "{") {
		return Problem{f.Path, f.innermost(s, what), text}
	}
	b, err := os.ReadFile(s.Text)
	if err != nil || len(b) > maxSize {
		return Problem{f.Path, s.At, text}
	}
	var any json.RawMessage
	if bad, ok := errors.AsType[*json.SyntaxError](json.Unmarshal(b, &any)); ok {
		return Problem{s.Text, placeOf(b, bad.Offset), text}
	}
	top, _ := parseYAML(s.Text, b) // JSON is YAML
	return Problem{s.Text, (&File{inline: map[string]value{s.Flag: {entries: top}}}).innermost(Setting{Flag: s.Flag, At: Place{1, 1}}, what), text}
}

// placeOf is that of the last byte that was read of a text.
func placeOf(text []byte, read int64) Place {
	before := string(text[:min(max(read-1, 0), int64(len(text)))])
	return Place{1 + strings.Count(before, "\n"), len(before) - strings.LastIndexByte(before, '\n')}
}
