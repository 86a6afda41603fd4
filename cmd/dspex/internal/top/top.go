// Package top is `dspex top`: the pool's numbers as they move.
package top

import (
	"context"
	"fmt"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/insight"
)

// shortestEach is the shortest time between two samples.
const shortestEach = 200 * time.Millisecond

// patience is how long a sample may take; then it counts as one without an answer.
const patience = 5 * time.Second

// Top is `dspex top`.
func Top(a *cli.App) *cobra.Command {
	var every time.Duration
	cmd := &cobra.Command{
		Use: "top", Short: "Watch the pool: throughput, errors, hosts, breakers, as they move",
		Long: `Watch the pool: throughput, errors, latency, workers, sessions, hosts, and the circuit breakers that are not closed.

Latency is that of the jobs that ended since the update before, from their acceptance to their end: p50 is what half of
them did not exceed, p99 what 99 of 100 did not. Jobs that were published may have waited for long, and have lines of
their own.

Keys: q quits, p pauses. Without a terminal, or with -o json, it prints one snapshot and ends; -o jsonl prints
one line each time until it is interrupted.`,
		Example: `  dspex top
  dspex top --every 5s -o jsonl >numbers.jsonl`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if every < shortestEach {
				return cli.Usage("--every must be %s or more, got %s", shortestEach, every)
			}
			address, _, err := a.Target()
			if err != nil {
				return err
			}
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				from := insight.Pool(c)
				if !a.Text() || !cli.IsTerminal(a.Out) || a.Env("TERM") == "dumb" {
					return plainly(ctx, a, from, address, every)
				}
				return live(ctx, a, from, address, every)
			})
		},
	}
	cmd.Flags().DurationVar(&every, "every", time.Second, "time between two updates")
	return cmd
}

// plainly prints what is seen: once, or as lines until ctx ends.
func plainly(ctx context.Context, a *cli.App, from insight.Source, address string, every time.Duration) error {
	seen := &insight.History{}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		s := insight.Take(ctx, from)
		if s.Sick != nil && a.Output != "jsonl" {
			return s.Sick
		}
		seen.Add(s)
		if a.Text() && len(seen.Samples) == 2 { // two make a rate
			fmt.Fprintln(a.Out, screen{address: address, every: every, seen: seen, width: 120, paint: unpainted}.draw())
			return nil
		}
		if !a.Text() {
			if err := a.Say(sampleJSON(seen)); err != nil || a.Output == "json" {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

func unpainted(_, text string) string { return text }

// sampleJSON is the form of a sample as JSON.
func sampleJSON(seen *insight.History) map[string]any {
	now, _ := seen.Last()
	out := map[string]any{"at": now.At.UTC(), "health": now.Health.Raw, "hosts": now.Hosts.Raw}
	if now.Sick != nil {
		out = map[string]any{"at": now.At.UTC(), "error": now.Sick.Error()}
	}
	if n := len(seen.Requests); n > 0 {
		out["latency"] = map[string]any{"call": latencyJSON(seen.Calls[n-1]), "queue": latencyJSON(seen.Queued[n-1])}
		out["requests_per_second"], out["errors_per_second"] = seen.Requests[n-1], seen.Errors[n-1]
	}
	return out
}

func latencyJSON(of insight.Latency) map[string]any {
	return map[string]any{"jobs": of.Jobs, "p50_ms": of.P50.Seconds() * 1000, "p99_ms": of.P99.Seconds() * 1000}
}

// live draws until the user ends it.
func live(ctx context.Context, a *cli.App, from insight.Source, address string, every time.Duration) error {
	m := model{ctx: ctx, from: from, screen: screen{
		address: address, every: every, seen: &insight.History{}, width: a.Width(a.Out),
		paint: func(code, text string) string { return a.Paint(a.Out, code, text) },
	}}
	_, err := tea.NewProgram(m, tea.WithContext(ctx), tea.WithInput(a.In), tea.WithOutput(a.Out), tea.WithoutSignalHandler()).Run()
	if ctx.Err() != nil {
		return nil //nolint:nilerr // it was interrupted, which is how it ends
	}
	return err
}

// model is the picture and what moves it.
type model struct {
	ctx    context.Context
	from   insight.Source
	screen screen
}

// again requests the next sample.
type again struct{}

func (m model) Init() tea.Cmd { return m.look }

func (m model) look() tea.Msg {
	ctx, cancel := context.WithTimeout(m.ctx, patience)
	defer cancel()
	return insight.Take(ctx, m.from)
}

func (m model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case insight.Sample:
		if !m.screen.paused {
			m.screen.seen.Add(msg)
		}
		return m, tea.Tick(m.screen.every, func(time.Time) tea.Msg { return again{} })
	case again:
		return m, m.look
	case tea.WindowSizeMsg:
		m.screen.width, m.screen.height = msg.Width, msg.Height
	case tea.KeyPressMsg:
		switch msg.String() {
		case "q", "ctrl+c", "esc":
			return m, tea.Quit
		case "p", "space":
			m.screen.paused = !m.screen.paused
		}
	}
	return m, nil
}

func (m model) View() tea.View {
	v := tea.NewView(m.screen.draw())
	v.AltScreen = true
	return v
}
