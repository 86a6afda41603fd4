package dspex_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/dspex/dspex/internal/programtest"
)

// TestTestsSleepInBubblesOnly allows sleeps in packages whose tests use synctest: the bubble may be made in another file.
func TestTestsSleepInBubblesOnly(t *testing.T) {
	texts := programtest.Sources(t, ".", "_test.go")
	bubbles := map[string]bool{}
	for path, text := range texts {
		if strings.Contains(text, `"testing/synctest"`) {
			bubbles[filepath.Dir(path)] = true
		}
	}
	for path, text := range texts {
		if strings.Contains(text, "time.Sl"+"eep(") && !bubbles[filepath.Dir(path)] {
			t.Errorf("%s sleeps in real time: wait for what the process says, or use testing/synctest", path)
		}
	}
}

// skip is a call of a testing.TB by one of its usual names; others have methods called Skip too.
var skip = regexp.MustCompile(`\b(t|tb|b|f)\.Skip(f|Now)?\(`)

func TestNoTestSkips(t *testing.T) {
	for path, text := range programtest.Sources(t, ".", "_test.go") {
		// In a rapid state machine t.Skip means that an action does not apply now.
		if call := skip.FindString(text); call != "" && !strings.Contains(text, `"pgregory.net/rapid"`) {
			t.Errorf("%s calls %s...): what is missing is a failure that says what to install", path, call)
		}
	}
}

func TestLocksNameNoRegistry(t *testing.T) {
	for path, text := range programtest.Sources(t, ".", "package-lock.json") {
		if strings.Contains(text, `"resolved"`) || strings.Contains(text, "://") {
			t.Errorf("%s carries download addresses: make it again beside the .npmrc with omit-lockfile-registry-resolved", path)
		}
	}
}

// logged are the messages of log lines that stand in the code.
var logged = regexp.MustCompile(`[lL]og\.(?:Debug|Info|Warn|Error)\("([^"]*)"`)

// TestLogMessagesAreConstantAndSnakeCase: what changes is an attribute, so that a message can be searched for and counted.
func TestLogMessagesAreConstantAndSnakeCase(t *testing.T) {
	snake := regexp.MustCompile(`^[a-z]+(_[a-z0-9]+)*$`)
	found := 0
	for path, text := range programtest.Sources(t, ".", ".go") {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		for _, m := range logged.FindAllStringSubmatch(text, -1) {
			found++
			if !snake.MatchString(m[1]) {
				t.Errorf("%s logs %q: a message must be constant snake_case", path, m[1])
			}
		}
	}
	if found < 50 {
		t.Errorf("found %d log messages, expected at least 50: does the pattern still fit?", found)
	}
}
