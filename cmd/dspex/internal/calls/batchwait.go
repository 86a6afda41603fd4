package calls

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// awaitBatch waits for the end: with a bar on a terminal, else with a line now and then.
func awaitBatch(ctx context.Context, a *cli.App, c *dspex.Client, b dspex.Batch) (dspex.Batch, error) {
	began, first, shown := time.Now(), b.Done(), time.Now()
	var line atomic.Value
	draw := func() {
		bar := cli.BarOf(uint64(b.Done()), uint64(b.Jobs), "jobs") //nolint:gosec // both count
		line.Store(bar + pace(b, b.Done()-first, time.Since(began)) + errorsOf(b, mostInBar))
	}
	draw()
	bar := a.StartBar(func() string { return line.Load().(string) })
	defer bar.Stop()
	t := time.NewTicker(progressLook)
	defer t.Stop()
	for b.Phase != dspex.BatchEnded {
		select {
		case <-ctx.Done():
			return b, batchGoesOn(b)
		case <-t.C:
		}
		now, err := c.GetBatch(ctx, b.ID)
		if err != nil && ctx.Err() != nil {
			return b, batchGoesOn(b)
		}
		if err != nil {
			return b, err
		}
		b = now
		draw()
		if !cli.IsTerminal(a.Err) && time.Since(shown) >= progressLine {
			shown = time.Now()
			fmt.Fprintln(a.Err, progress(b, b.Done()-first, time.Since(began)))
		}
	}
	return b, nil
}

// batchGoesOn is the error of a command that stops waiting for a batch.
func batchGoesOn(b dspex.Batch) error {
	return &cli.Failure{Status: cli.ExitInterrupted, Text: "interrupted; the batch " + b.ID + " continues",
		Hint: fmt.Sprintf("`dspex batch wait %s` waits for its end, `dspex batch results %s` has what is done, `dspex batch cancel %s` ends it", b.ID, b.ID, b.ID)}
}

func progress(b dspex.Batch, n int, in time.Duration) string {
	return fmt.Sprintf("%d/%d jobs", b.Done(), b.Jobs) + pace(b, n, in) + errorsOf(b, 0)
}

// pace is the rate and the time that is left, of n jobs that have ended in a time.
func pace(b dspex.Batch, n int, in time.Duration) string {
	rate := float64(n) / in.Seconds()
	if n <= 0 || rate <= 0 {
		return ""
	}
	left := time.Duration(float64(b.Jobs-b.Done()) / rate * float64(time.Second))
	return fmt.Sprintf(", %.1f/s, %s left", rate, left.Round(time.Second))
}

// mostInBar is how many codes a bar has room for.
const mostInBar = 2

// errorsOf are the errors by code, the most frequent first; most of them, 0: all.
func errorsOf(b dspex.Batch, most int) string {
	codes := slices.SortedFunc(maps.Keys(b.Errors), func(x, y string) int { return b.Errors[y] - b.Errors[x] })
	if most > 0 {
		codes = codes[:min(len(codes), most)]
	}
	var text strings.Builder
	for _, code := range codes {
		fmt.Fprintf(&text, ", %s %d", cli.Word(code), b.Errors[code])
	}
	return text.String()
}

func summary(b dspex.Batch) string {
	o := b.Outcomes
	text := fmt.Sprintf("%d jobs: %d succeeded, %d failed, %d cancelled, %d expired, in %s", b.Jobs, o.Succeeded, o.Failed, o.Cancelled, o.Expired,
		b.EndedAt.Sub(b.SubmittedAt).Round(time.Millisecond))
	if b.Lost {
		text += "; the store lost some of its jobs"
	}
	return text + errorsOf(b, 0) + usageOf(b)
}

// usageOf is what the models counted.
func usageOf(b dspex.Batch) string {
	var text strings.Builder
	for _, model := range slices.Sorted(maps.Keys(b.Usage)) {
		fmt.Fprintf(&text, "; %s:", cli.Word(model))
		for _, name := range slices.Sorted(maps.Keys(b.Usage[model])) {
			fmt.Fprintf(&text, " %s %d", cli.Word(name), b.Usage[model][name])
		}
	}
	return text.String()
}

func sayBatch(a *cli.App, b dspex.Batch) error {
	if !a.Text() {
		return a.Say(b.Raw)
	}
	o := b.Outcomes
	rows := []cli.Row{{"batch", cli.Word(b.ID)}, {"phase", string(b.Phase)}, {"jobs", fmt.Sprint(b.Jobs)},
		{"outcomes", fmt.Sprintf("%d succeeded, %d failed, %d cancelled, %d expired", o.Succeeded, o.Failed, o.Cancelled, o.Expired)},
		{"errors", strings.TrimPrefix(errorsOf(b, 0), ", ")}, {"submitted", moment(b.SubmittedAt)}, {"ended", moment(b.EndedAt)}, {"kept until", moment(b.ExpiresAt)}}
	for _, model := range slices.Sorted(maps.Keys(b.Usage)) {
		for _, name := range slices.Sorted(maps.Keys(b.Usage[model])) {
			rows = append(rows, cli.Row{"usage", fmt.Sprintf("%s %s %d", cli.Word(model), cli.Word(name), b.Usage[model][name])})
		}
	}
	a.Table(a.Out, "", rows)
	return nil
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// The time between two checks of the progress, and between two lines about it where there is no terminal.
const (
	progressLook = 500 * time.Millisecond
	progressLine = 10 * time.Second
)
