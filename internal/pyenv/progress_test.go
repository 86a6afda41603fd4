package pyenv

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestATerminalGetsOneRedrawnLineAndThePlainFormNone(t *testing.T) {
	for name, c := range map[string]struct{ live, color bool }{"terminal": {true, true}, "NO_COLOR": {true, false}, "plain": {false, false}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out buffer
				p := &progress{w: &out, live: c.live, color: c.color, width: 60}
				s := p.start("Packages", []string{"/bin/x", "a b"})
				s.update(3, 4, strings.Repeat("long", 20))
				time.Sleep(3*redraw + redraw/2) // fake time
				s.end(nil)
				p.start("Import", nil).end(errors.New("no"))
				p.close()
				text := out.String()
				if !strings.Contains(text, "$ /bin/x 'a b'") || !strings.Contains(text, "Import: ") || !strings.Contains(text, "failed") {
					t.Errorf("got %q", text)
				}
				if got := strings.Count(text, "\r\x1b[2K") > 3; got != c.live {
					t.Errorf("redrawn: %v in %q", got, text)
				}
				if got := strings.Contains(text, "\x1b[32m"); got != c.color {
					t.Errorf("coloured: %v in %q", got, text)
				}
				if got := strings.Contains(text, "[###############.....] 3/4"); got != c.live {
					t.Errorf("bar: %v in %q", got, text)
				}
				for line := range strings.SplitSeq(text, "\r\x1b[2K") {
					if drawn, _, _ := strings.Cut(line, "\n"); len(drawn) > 60 {
						t.Errorf("a line would wrap: %q", drawn)
					}
				}
			})
		})
	}
}

func TestAPipeIsNoTerminal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if newProgress(w, nil).live {
		t.Error("a pipe is drawn on")
	}
	if newProgress(nil, nil).w != io.Discard {
		t.Error("no writer must be silence")
	}
}

func TestCounterFollowsPip(t *testing.T) {
	count := counter(2)
	for _, c := range []struct {
		line   string
		done   int
		detail string
	}{
		{"Ignoring colorama: markers 'x' don't match your environment", 1, ""},
		{"Collecting dspy==3.4.1 (from -r x (line 1))", 2, "dspy==3.4.1"},
		{"Collecting more (from -r x (line 1))", 2, "more"},
		{"Installing collected packages: dspy", 2, "unpacking and compiling"},
	} {
		if done, total, detail := count(c.line); done != c.done || total != 2 || detail != c.detail {
			t.Errorf("%s: %d/%d %q", c.line, done, total, detail)
		}
	}
}
