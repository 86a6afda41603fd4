package proc

import (
	"strings"
	"testing"
)

// stacks is a dump: one thread that rests, one that does not.
const stacks = `Thread 0x00007f9a4291d6c0 (most recent call first):
  File "/opt/lib/runner.py", line 7 in dig
  File "/opt/lib/runner.py", line 9 in run

Current thread 0x00007f9a4367eb80 (most recent call first):
  File "/usr/lib/python3/selectors.py", line 468 in select
  File "<string>", line 1 in <module>
`

func TestStacksAreReadWithoutWhatElseIsOnStderr(t *testing.T) {
	text := "question=secret\n" + `  File "/not/in/a/dump.py", line 1 in f` + "\n" + stacks + "  answer=secret\nThread of mine (most recent call first):\n"
	want := `Thread 0x00007f9a4291d6c0
  runner.py:7 in dig
  runner.py:9 in run
Current thread 0x00007f9a4367eb80
  selectors.py:468 in select
  <string>:1 in <module>
`
	if got := readStacks(text); got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if got := readStacks("nothing of that kind\n"); got != "" {
		t.Errorf("got %q, want nothing", got)
	}
	if got := readStacks(stacks + strings.Repeat("  File \"x.py\", line 1 in f\n", 10_000)); len(got) > maxStack {
		t.Errorf("got %d bytes, want at most %d", len(got), maxStack)
	}
}

func TestInnermostFrameIsThatOfWhoeverDoesNotRest(t *testing.T) {
	resting := "Current thread 0x1\n  selectors.py:468 in select\n"
	for stack, want := range map[string]string{
		"":      "",
		resting: "",
		"Thread 0x2\n  threads.py:96 in _serve\n" + resting:                                "",
		"Thread 0x2\n  user.py:3 in dig\n" + resting:                                       "user.py:3 in dig",
		"Thread 0x2\n  user.py:3 in dig\nCurrent thread 0x1\n  own.py:5 in spin\n":         "own.py:5 in spin",
		"Task of call 7\n  task.py:9 in stay\nCurrent thread 0x1\n  own.py:5 in spin\n":    "task.py:9 in stay",
		"Thread 0x2\n  <no Python frame>\n  user.py:3 in dig\nThread 0x3\n  b.py:1 in g\n": "b.py:1 in g",
	} {
		if got := Innermost(stack); got != want {
			t.Errorf("%q: got %q, want %q", stack, got, want)
		}
	}
}
