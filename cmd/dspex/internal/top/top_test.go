package top

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	tea "charm.land/bubbletea/v2"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/insight"
)

var update = flag.Bool("update", false, "write the pictures in testdata")

// looks are samples two seconds apart; the host h1 restarts before the third.
func looks() *insight.History {
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	h := &insight.History{}
	for i, n := range []int64{0, 100, 40, 340} {
		one := dspex.HostInfo{Host: "h1", State: dspex.HostServing, Incarnation: "a", Partitions: 32, Capacity: 128, Free: 96, PoolSize: 2, ActiveWorkers: 2, ActiveSessions: 7, BusySessions: 5, TotalRequests: n, TotalErrors: 3}
		if n > 0 { // all calls take 4 ms, then 260 of 300
			one.Latency = map[string][]dspex.LatencyBucket{"call": {{Upper: 4 * time.Millisecond, Jobs: min(n, 300)}, {Upper: 120 * time.Millisecond, Jobs: max(n-300, 0)}}}
		}
		if i > 1 {
			one.Incarnation = "b"
		}
		gone := dspex.HostInfo{Host: "a-host-with-a-long-name", State: dspex.HostGone, Partitions: 32}
		h.Add(insight.Sample{
			At: began.Add(time.Duration(i) * 2 * time.Second),
			Health: dspex.Health{Status: dspex.HealthDegraded, Reasons: []string{"a-host-with-a-long-name is gone: its partitions move to the other hosts within seconds"}, Stats: dspex.Stats{
				PoolSize: 2, ActiveWorkers: 2, ActiveSessions: 7, TotalRequests: n, TotalErrors: n / 10, AverageResponseTime: 12 * time.Millisecond, AffinityHits: 9, AffinityMisses: 1,
			}},
			Hosts: dspex.Hosts{Hosts: []dspex.HostInfo{one, gone}, Partitions: 64, Unassigned: 32},
			Breakers: []dspex.Breaker{
				{Name: "pool.h1", State: dspex.BreakerClosed},
				{Name: "lm.gpt", State: dspex.BreakerOpen, RetryIn: 42 * time.Second, LastFailure: &dspex.BreakerFailure{What: "python/lm_timeout\x1b[31m"}},
			},
		})
	}
	return h
}

func TestPicture(t *testing.T) {
	for _, row := range []struct {
		name          string
		width, height int
		seen          *insight.History
	}{{"wide", 120, 40, looks()}, {"narrow", 60, 40, looks()}, {"low", 80, 10, looks()}, {"no terminal", 120, 0, looks()}, {"first", 80, 24, &insight.History{}}} {
		t.Run(row.name, func(t *testing.T) {
			s := screen{address: "nats://h:4222", every: time.Second, seen: row.seen, width: row.width, height: row.height, paint: unpainted}
			got := s.draw() + "\n"
			for line := range strings.Lines(got) {
				if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > row.width {
					t.Errorf("a line has %d columns, of %d: %q", n, row.width, line)
				}
			}
			if n := strings.Count(got, "\n"); row.height > 0 && n > row.height {
				t.Errorf("%d lines, of %d", n, row.height)
			}
			file := filepath.Join("testdata", strings.ReplaceAll(row.name, " ", "_")+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nexpected:\n%s", got, want)
			}
		})
	}
}

func TestCountersThatFallAreNoRate(t *testing.T) {
	h := looks()
	want := []float64{50, 0, 150}
	if len(h.Requests) != len(want) {
		t.Fatalf("rates: %v", h.Requests)
	}
	for i, rate := range want {
		if h.Requests[i] != rate {
			t.Errorf("rate %d: %v, expected %v", i, h.Requests[i], rate)
		}
	}
	if h.Hosts["h1"] != 150 {
		t.Errorf("rate of h1: %v", h.Hosts["h1"])
	}
}

func TestASampleWithoutAnAnswerIsNoRate(t *testing.T) {
	h := looks()
	last, _ := h.Last()
	h.Add(insight.Sample{At: last.At.Add(time.Second), Sick: errors.New("no dispatcher")})
	h.Add(insight.Sample{At: last.At.Add(2 * time.Second), Health: last.Health})
	if got := h.Requests[len(h.Requests)-2:]; got[0] != 0 || got[1] != 0 {
		t.Errorf("rates: %v", got)
	}
}

func TestOnlyTheNewestSamplesAreKept(t *testing.T) {
	h := &insight.History{}
	for i := range insight.Kept + 10 {
		h.Add(insight.Sample{At: time.Unix(int64(i), 0)})
	}
	if last, _ := h.Last(); len(h.Samples) != insight.Kept || len(h.Requests) != insight.Kept || last.At != time.Unix(insight.Kept+9, 0) {
		t.Errorf("%d samples, %d rates, the last one of %v", len(h.Samples), len(h.Requests), last.At)
	}
}

func press(key rune) tea.KeyPressMsg { return tea.KeyPressMsg{Code: key, Text: string(key)} }

func TestKeys(t *testing.T) {
	var m tea.Model = model{screen: screen{every: time.Second, seen: looks(), paint: unpainted}}
	before := len(m.(model).screen.seen.Samples)
	m, _ = m.Update(press('p'))
	m, next := m.Update(insight.Sample{})
	if !m.(model).screen.paused || len(m.(model).screen.seen.Samples) != before || next == nil {
		t.Error("p does not hold the picture, or ends the looks")
	}
	m, _ = m.Update(press('p'))
	if m, _ = m.Update(insight.Sample{}); len(m.(model).screen.seen.Samples) != before+1 {
		t.Error("a second p does not let it go on")
	}
	m, _ = m.Update(tea.WindowSizeMsg{Width: 60, Height: 12})
	if s := m.(model).screen; s.width != 60 || s.height != 12 {
		t.Errorf("%d x %d", s.width, s.height)
	}
	_, end := m.Update(press('q'))
	if end == nil {
		t.Fatal("q does nothing")
	}
	if _, ok := end().(tea.QuitMsg); !ok {
		t.Errorf("q: %T", end())
	}
}

// deaf answers the health alone.
type deaf struct{}

func (deaf) Health(context.Context) (dspex.Health, error) {
	return dspex.Health{Status: dspex.HealthHealthy}, nil
}
func (deaf) Hosts(context.Context) (dspex.Hosts, error) {
	return dspex.Hosts{}, errors.New("permission denied")
}
func (deaf) Breakers(context.Context) ([]dspex.Breaker, error) { return nil, nil }

func TestAUserWhoMayNotListHostsSeesTheRest(t *testing.T) {
	h := &insight.History{}
	h.Add(insight.Take(t.Context(), deaf{}))
	got := screen{seen: h, width: 80, height: 24, paint: unpainted}.draw()
	for _, text := range []string{"healthy", "requests / s", "permission denied"} {
		if !strings.Contains(got, text) {
			t.Errorf("%q is missing in:\n%s", text, got)
		}
	}
}

func BenchmarkDraw(b *testing.B) {
	h := looks()
	last, _ := h.Last()
	for i := range 1000 {
		last.Hosts.Hosts = append(last.Hosts.Hosts, dspex.HostInfo{Host: "h", State: dspex.HostServing, Capacity: i + 1, ActiveSessions: 100_000})
		h.Add(last)
	}
	s := screen{address: "nats://h:4222", seen: h, width: 200, height: 60, paint: unpainted}
	for b.Loop() {
		_ = s.draw()
	}
}
