package proc

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspex/dspex/internal/programtest"
)

func TestLinesAreCutAtEitherEndAndShortened(t *testing.T) {
	long := strings.Repeat("x", MaxLine)
	for _, c := range []struct{ in, want string }{
		{"a\nb\n", "a|b"},
		{"no end", "no end"},
		{"10%\r20%\r100%\n", "10%|20%|100%"}, // a progress bar
		{"\r\n\n\r", ""},
		{long + "\nb", long + "|b"},
		{long + "yz\nb", long + "(-2)|b"},
		{long + long + "\n", long + "(-16384)"},
	} {
		for _, step := range []int{1, 7, len(c.in)} { // however the bytes arrive
			var got []string
			emit := func(line []byte, cut int) {
				text := string(line)
				if cut > 0 {
					text += fmt.Sprintf("(-%d)", cut)
				}
				got = append(got, text)
			}
			var cutter lineCutter
			for b := []byte(c.in); len(b) > 0; b = b[min(step, len(b)):] {
				cutter.feed(b[:min(step, len(b))], emit)
			}
			cutter.end(emit)
			if all := strings.Join(got, "|"); all != c.want {
				t.Errorf("%.20q by %d: got %.40q, want %.40q", c.in, step, all, c.want)
			}
		}
	}
}

func TestTailKeepsTheLastBytes(t *testing.T) {
	var want []byte
	var got Tail
	for i := range 3000 {
		b := []byte(fmt.Sprintf("%d,%s", i, strings.Repeat("z", i%200)))
		got.write(b)
		want = append(want, b...)
		if i%500 == 0 && got.String() != string(want[max(0, len(want)-MaxTail):]) {
			t.Fatalf("after %d writes: got another tail", i)
		}
	}
	got.write(bytes.Repeat([]byte("q"), 3*MaxTail))
	if s := got.String(); len(s) != MaxTail || strings.Trim(s, "q") != "" {
		t.Errorf("after a huge write: got %d bytes", len(s))
	}
	if cap(got.buf) > 4*MaxTail {
		t.Errorf("keeps %d bytes of memory", cap(got.buf))
	}
}

// drained runs one pipe of logs in a bubble; say writes to it.
func drained(t *testing.T, h *programtest.Lines, do func(l *Logs, say func(string, ...any))) {
	synctest.Test(t, func(t *testing.T) {
		l := newLogs(slog.New(h))
		host, worker := net.Pipe()
		var all sync.WaitGroup
		all.Go(l.run)
		all.Go(func() {
			l.drain(host, "stderr", l.Tail)
			close(l.lines)
		})
		do(l, func(format string, args ...any) { fmt.Fprintf(worker, format, args...) })
		worker.Close()
		all.Wait()
	})
}

func TestFloodIsSuppressedWithANoteWhenTheSecondIsOver(t *testing.T) {
	h := &programtest.Lines{}
	drained(t, h, func(l *Logs, say func(string, ...any)) {
		for i := range linesPerTick + 500 {
			say("line %d\n", i)
			synctest.Wait()
		}
		if n := len(h.All()); n != linesPerTick {
			t.Errorf("got %d lines in the first second, want %d", n, linesPerTick)
		}
		time.Sleep(2 * time.Second) // the flood is over; nothing but the clock brings the note
		synctest.Wait()
		if got := h.All(); len(got) != linesPerTick+1 || got[linesPerTick] != "worker_log_suppressed suppressed=500" {
			t.Errorf("got %d lines, the last %q", len(got), got[len(got)-1])
		}
		say("after\n")
		synctest.Wait()
		if got := h.All(); got[len(got)-1] != "worker_output text=after stream=stderr" {
			t.Errorf("got %q, want the line after the flood", got[len(got)-1])
		}
		if !strings.HasSuffix(l.Tail.String(), "line 2499\nafter\n") {
			t.Error("the tail must have what the log has not")
		}
	})
}

func TestNoteIsNotLostAtTheEnd(t *testing.T) {
	h := &programtest.Lines{}
	drained(t, h, func(_ *Logs, say func(string, ...any)) {
		for i := range linesPerTick + 3 {
			say("line %d\n", i)
			synctest.Wait()
		}
	})
	if got := h.All(); got[len(got)-1] != "worker_log_suppressed suppressed=3" {
		t.Errorf("got %q last", got[len(got)-1])
	}
}

func TestSlowLoggerDoesNotHoldUpTheWorker(t *testing.T) {
	h := &programtest.Lines{}
	const sent = 3 * logQueue
	drained(t, h, func(_ *Logs, say func(string, ...any)) {
		h.Block = make(chan struct{}) // of the bubble
		for i := range sent {
			say("line %d\n", i) // would wait for ever if the pipe were not read
			if i%1000 == 999 {
				time.Sleep(logTick)
			}
		}
		close(h.Block)
	})
	suppressed, passed := 0, 0
	for _, line := range h.All() {
		var n int
		if _, err := fmt.Sscanf(line, "worker_log_suppressed suppressed=%d", &n); err == nil {
			suppressed += n
		} else {
			passed++
		}
	}
	if passed+suppressed != sent || suppressed == 0 {
		t.Errorf("passed %d, suppressed %d: want %d together and some suppressed", passed, suppressed, sent)
	}
}
