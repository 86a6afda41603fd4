package control

import (
	"testing"

	"github.com/dspex/dspex/internal/wire"
)

func TestWhatComponentsWriteIsOursAndNothingElse(t *testing.T) {
	choice, err := wire.Encode(map[string]any{"model": "fast"})
	if err != nil {
		t.Fatal(err)
	}
	name := LMBreaker("openai", "gpt-4o", "http://x", "")
	open := string(OpenBreaker{Name: name, Host: "h1", Failures: 5}.Bytes())
	for _, c := range []struct {
		key, value string
		ours       bool
	}{
		{LeaderKey, "d1", true}, {LeaderKey, "", true}, {LeaderKey, "a b", false}, {LeaderKey, "{}", false},
		{DrainKey("h1"), `{"since":"2026-05-04T03:02:01.000Z"}`, true}, {DrainKey("h1"), "true", false}, {DrainKey("h1"), "", false}, {DrainKey("h1"), `{"since":"now"}`, false},
		{DrainKey("a.b"), `{"since":"2026-05-04T03:02:01.000Z"}`, false},
		{DefaultLMKey, string(choice), true}, {DefaultLMKey, "fast", false}, {DefaultLMKey, "", false}, {DefaultLMKey, "\x93\x01\x02\x03", false},
		{BreakerKey(name), open, true}, {FailureKey(name), open, true}, {BreakerKey("lm.other"), open, false}, {BreakerKey(name), "{}", false}, {"b.=zz", open, false},
		{"prog.cWE", "\x93\xa1a\x01\x80", true}, {"prog.cWE", "{}", false}, {"prog.cWE", "", false}, {"prog.!", "\x93\xa1a\x01\x80", false},
		{"", "", false}, {"other", open, false}, {"lm.other", string(choice), false},
	} {
		if got := Ours(c.key, []byte(c.value)); got != c.ours {
			t.Errorf("%s: %q: got %v", c.key, c.value, got)
		}
	}
}
