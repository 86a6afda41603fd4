package cli

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/dspex/dspex/internal/daemon"
)

func TestCleanJSONIsHarmlessAndTheSameValue(t *testing.T) {
	for _, text := range []string{"plain é 日本 👨‍👩‍👧", "\x7f\u009b\u202e\u2066\u2028\ufeff\U000e0041", "a\nb\tc"} {
		before, err := json.Marshal(map[string]string{"t": text})
		if err != nil {
			t.Fatal(err)
		}
		after := cleanJSON(before)
		for _, r := range string(after) {
			if hostile(r) {
				t.Errorf("%q is left in %q", r, after)
			}
		}
		var back map[string]string
		if err := json.Unmarshal(after, &back); err != nil || back["t"] != text {
			t.Errorf("%q became %q (%v)", text, back["t"], err)
		}
	}
}

func TestCleanTextKeepsLinesAndLosesWhatDrivesATerminal(t *testing.T) {
	if got, want := Clean("a\x1b]0;title\x07b\r\nc\xff\u202e"), "a]0;titleb\nc\uFFFD"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestColoursAreForTerminalsThatWantThem(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	for env, want := range map[[2]string]string{{"", ""}: "\x1b[32mready\x1b[0m", {"NO_COLOR", "1"}: "ready", {"TERM", "dumb"}: "ready", {"NO_COLOR", ""}: "\x1b[32mready\x1b[0m"} {
		a := &App{Env: func(name string) string {
			if name == env[0] {
				return env[1]
			}
			return ""
		}}
		if got := a.Paint(terminal, Green, "ready"); got != want {
			t.Errorf("%v: %q", env, got)
		}
		if got := a.Paint(new(strings.Builder), Green, "ready"); got != "ready" {
			t.Errorf("%v, no terminal: %q", env, got)
		}
	}
}

func TestArgumentsThatAreNotUTF8AreRefusedNotRepaired(t *testing.T) {
	for text, words := range map[string][]string{"": {"a:=\"\xff\""}, "{}": {"a=[\"\xff\"]"}, "{\"a\": \"\xff\"}": nil} {
		if args, err := new(App).ParseArgs(words, text); err == nil || !strings.Contains(err.Error(), "UTF-8") {
			t.Errorf("%q %q: %q %v", text, words, args, err)
		}
	}
}

func TestPasswordsAndTokensAreNotShown(t *testing.T) {
	for address, want := range map[string]string{
		"nats://u:p@h:4222":          "nats://...@h:4222",
		"nats://token@h, tls://h2:1": "nats://...@h,tls://h2:1",
		"nats://u:p%zz@h":            "an address that is not a URL",
	} {
		if got := daemon.WithoutPassword(address); got != want {
			t.Errorf("%s is shown as %s, want %s", address, got, want)
		}
	}
}
