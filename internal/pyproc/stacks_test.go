package pyproc

import (
	"strings"
	"syscall"
	"testing"
)

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
		if got := innermost(stack); got != want {
			t.Errorf("%q: got %q, want %q", stack, got, want)
		}
	}
}

func TestSignalsAreNamedAndAForeignKillIsCalledOutOfMemory(t *testing.T) {
	text := (&ExitError{Worker: "h/1", Code: -1, Signal: syscall.SIGSEGV}).Error()
	if !strings.Contains(text, "SIGSEGV (segmentation fault)") || strings.Contains(text, "memory") {
		t.Errorf("got %q", text)
	}
	killed := &ExitError{Worker: "h/1", Code: -1, Signal: syscall.SIGKILL, RSS: 812 << 20}
	if text := killed.Error(); !killed.OutOfMemory() || !strings.Contains(text, "out of memory (it had 812 MiB)") {
		t.Errorf("got %q", text)
	}
	killed.Cause = &HungError{Worker: "h/1"}
	if text := killed.Error(); killed.OutOfMemory() || strings.Contains(text, "memory") {
		t.Errorf("got %q", text)
	}
}
