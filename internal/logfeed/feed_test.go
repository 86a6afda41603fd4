package logfeed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/natstest"
)

// feed is one with a logger that takes every level.
func feed() (*Feed, *slog.Logger) {
	f := New("worker-host", "h1")
	return f, slog.New(f.Handler(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelDebug}))) //nolint:sloglint // the discarding one takes no level
}

func (f *Feed) messages(most, level, room int) (all []string) {
	lines, _ := f.last(most, level, room)
	for _, raw := range lines {
		var l line
		if err := json.Unmarshal(raw, &l); err != nil {
			panic(err)
		}
		all = append(all, l.Message)
	}
	return all
}

type secretive struct{}

func (secretive) LogValue() slog.Value { return slog.StringValue("...") }

func TestALineHasWhatTheLogHas(t *testing.T) {
	f, log := feed()
	log.With("worker", "h1/0").WithGroup("g").Warn("m", "error", errors.New("no"), "took", 1500*time.Millisecond, "secret", secretive{}, "n", 3)
	lines, _ := f.last(1, 0, maxAnswer)
	var got map[string]any
	if err := json.Unmarshal(lines[0], &got); err != nil {
		t.Fatal(err)
	}
	if at, err := time.Parse(time.RFC3339Nano, got["at"].(string)); err != nil || at.Location() != time.UTC {
		t.Errorf("at %v, %v", got["at"], err)
	}
	delete(got, "at")
	want := map[string]any{"level": "warn", "message": "m", "process": "worker-host", "name": "h1",
		"fields": map[string]any{"worker": "h1/0", "g": map[string]any{"error": "no", "took": "1.5s", "secret": "...", "n": 3.0}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestTheLastLinesOfEachLevelAreKept(t *testing.T) {
	f, log := feed()
	log.Error("first")
	for i := range kept + 50 {
		log.Debug("debug")
		log.Info(fmt.Sprint("i", i)) //nolint:sloglint // told apart by it
	}
	log.Warn("last")
	got := f.messages(1000, 0, maxAnswer)
	if len(got) != kept+2 {
		t.Fatalf("got %d lines, want %d: %q", len(got), kept+2, got)
	}
	if ends := [...]string{got[0], got[1], got[kept+1]}; ends != [...]string{"first", "i50", "last"} {
		t.Errorf("the first two lines and the last: got %q, want first, i50, last", ends)
	}
	for _, c := range []struct {
		most, level, room int
		want              string
	}{{2, 0, maxAnswer, "[i249 last]"}, {9, 1, maxAnswer, "[first last]"}, {9, 2, maxAnswer, "[first]"}, {0, 0, maxAnswer, "[]"}, {-1, 0, maxAnswer, "[]"}, {9, 1, 150, "[last]"}} {
		if got := fmt.Sprint(f.messages(c.most, c.level, c.room)); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
	if _, leftOut := f.last(9, 1, 150); leftOut != 1 {
		t.Errorf("%d left out", leftOut)
	}
}

func TestTextsAndLinesAreBounded(t *testing.T) {
	f, log := feed()
	long := strings.Repeat("é", maxLine)
	log.Info(long, "text", long, "error", errors.New(long)) //nolint:sloglint // too long
	log.Info("many", "list", strings.Split(long, ""))
	lines, _ := f.last(2, 0, maxAnswer)
	for _, raw := range lines {
		if len(raw) > maxLine || !json.Valid(raw) {
			t.Errorf("%d bytes: %.100s", len(raw), raw)
		}
	}
	if !strings.Contains(string(lines[1]), `"bytes_left_out":`) {
		t.Errorf("%s", lines[1])
	}
}

func TestWhatTheLogLeavesOutIsNotShown(t *testing.T) {
	f := New("worker-host", "h1")
	log := slog.New(f.Handler(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelWarn}))) //nolint:sloglint // the discarding one takes no level
	log.Info("info")
	log.Warn("warn")
	if got := fmt.Sprint(f.messages(9, 0, maxAnswer)); got != "[warn]" {
		t.Error(got)
	}
}

// TestWhoLogsWaitsForNobody: nothing takes what is to be sent.
func TestWhoLogsWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, log := feed()
		f.until = time.Now().Add(time.Hour)
		for range 2 * perSecond {
			log.Info("flood")
		}
		if f.dropped != perSecond || len(f.queue) != perSecond {
			t.Errorf("%d dropped, %d wait", f.dropped, len(f.queue))
		}
		for range 3 {
			time.Sleep(time.Second)
			for range perSecond {
				log.Info("more")
			}
		}
		if want := perSecond + 4*perSecond - waiting; f.dropped != want || len(f.queue) != waiting {
			t.Errorf("%d dropped of which %d were expected, %d wait", f.dropped, want, len(f.queue))
		}
	})
}

// served has a feed at a broker, a subscription to its lines, and what asks it.
func served(t *testing.T, options ...func(*server.Options)) (f *Feed, log *slog.Logger, lines *nats.Subscription, ask func(body string) answer) {
	t.Helper()
	srv := natstest.Run(t, options...)
	nc, operator := natstest.Connect(t, srv), natstest.Connect(t, srv)
	f, log = feed()
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- f.Serve(ctx, nc) }()
	t.Cleanup(func() {
		cancel()
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
	lines, err := operator.SubscribeSync("dspex.log.>")
	if err != nil {
		t.Fatal(err)
	}
	return f, log, lines, func(body string) (a answer) {
		t.Helper()
		for {
			m, err := operator.Request("dspex.logs.get", []byte(body), 10*time.Second)
			if errors.Is(err, nats.ErrNoResponders) {
				continue // it is about to subscribe
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(m.Data, &a); err != nil {
				t.Fatal(err)
			}
			return a
		}
	}
}

func TestLinesAreSentWhileSomebodyFollows(t *testing.T) {
	f, log, lines, ask := served(t)
	log.Info("before")
	if a := ask(""); a.Process != "worker-host" || a.Name != "h1" || len(a.Lines) != 0 {
		t.Errorf("an empty request: %+v", a)
	}
	if a := ask(`{"tail": 5, "follow": true, "unknown": 1}`); len(a.Lines) != 1 {
		t.Errorf("%+v", a)
	}
	log.Error("while")
	m, err := lines.NextMsg(10 * time.Second)
	if err != nil || m.Subject != "dspex.log.worker-host.error" || !strings.Contains(string(m.Data), `"message":"while"`) {
		t.Fatalf("%v, %v", m, err)
	}
	f.mu.Lock()
	f.until = time.Now() // its ten seconds are over
	f.mu.Unlock()
	log.Info("after")
	ask(`{"follow": true}`)
	log.Info("again")
	if m, err = lines.NextMsg(10 * time.Second); err != nil || !strings.Contains(string(m.Data), `"message":"again"`) {
		t.Fatalf("%v, %v", m, err)
	}
}

func TestAnAnswerIsAsLargeAsItsLines(t *testing.T) {
	_, log, _, ask := served(t)
	for range kept {
		log.Info("m", "text", strings.Repeat("&", maxValue))
	}
	if a := ask(`{"tail": 1000}`); len(a.Lines) != kept {
		t.Errorf("%d lines", len(a.Lines))
	}
}

func TestARequestThatIsWrongIsAnsweredWithWhatIs(t *testing.T) {
	_, log, _, ask := served(t)
	log.Info("line")
	for body, want := range map[string]string{"{": "unexpected end", `{"level": "loud"}`: "level must be info, warn or error, got \"loud\"", `{"tail": "x"}`: "tail"} {
		if a := ask(body); !strings.Contains(a.Error, want) || len(a.Lines) > 0 {
			t.Errorf("%s: %+v", body, a)
		}
	}
}

func TestLinesThatWereDroppedAreReported(t *testing.T) {
	f, log, lines, ask := served(t)
	ask(`{"follow": true}`)
	f.mu.Lock()
	f.sent, f.second = perSecond, time.Now().Add(time.Hour) // this second's are out
	f.mu.Unlock()
	log.Info("too many")
	m, err := lines.NextMsg(10 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if m.Subject != "dspex.log.worker-host.warn" {
		t.Errorf("subject: got %s, want dspex.log.worker-host.warn", m.Subject)
	}
	for _, part := range []string{`"message":"log_lines_dropped"`, `{"lines":1}`} {
		if !strings.Contains(string(m.Data), part) {
			t.Errorf("the line must have %s, got %s", part, m.Data)
		}
	}
}

func TestABrokerWithoutTheRightEndsNothing(t *testing.T) {
	_, log, _, _ := served(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "host", Password: "x", Permissions: &server.Permissions{Subscribe: &server.SubjectPermission{Deny: []string{"dspex.logs.>"}}}}}
		o.NoAuthUser = "host"
	})
	log.Info("goes on")
}

func BenchmarkALine(b *testing.B) {
	for name, log := range map[string]*slog.Logger{
		"alone": slog.New(slog.NewTextHandler(io.Discard, nil)),                                   //nolint:sloglint // the discarding one takes no level
		"fed":   slog.New(New("worker-host", "h1").Handler(slog.NewTextHandler(io.Discard, nil))), //nolint:sloglint // the discarding one takes no level
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				log.Info("worker_output", "worker", "h1/0", "pid", 4711, "text", "a line that a program prints", "stream", "stdout")
			}
		})
	}
}
