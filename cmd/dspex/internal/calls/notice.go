package calls

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/insight"
)

// noticeEach is the time between two checks of a job that the user waits for; the first comes after it, too.
const noticeEach = time.Second

// notice shows on a terminal what a job waits for.
type notice struct {
	end  context.CancelFunc
	once sync.Once
	done sync.WaitGroup
}

// watch shows what a job waits for until stop is called. Without a terminal it shows nothing.
func watch(ctx context.Context, a *cli.App, c *dspex.Client, job dspex.JobRef) *notice {
	ctx, end := context.WithCancel(ctx)
	n := &notice{end: end}
	if !cli.IsTerminal(a.Err) || a.Env("TERM") == "dumb" {
		return n
	}
	n.done.Go(func() {
		tick, began, shown := time.NewTicker(noticeEach), time.Now(), false
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				if shown {
					fmt.Fprint(a.Err, cli.ClearLine)
				}
				return
			case <-tick.C:
			}
			if text := reason(ctx, c, job); text != "" && ctx.Err() == nil {
				fmt.Fprint(a.Err, cli.ClearLine+a.Paint(a.Err, cli.Dim, fmt.Sprintf("%s  %s", cli.Span(time.Since(began)), text)))
				shown = true
			}
		}
	})
	return n
}

// reason is what a job waits for, as far as the user may see it.
func reason(ctx context.Context, c *dspex.Client, job dspex.JobRef) string {
	found, err := c.GetJob(ctx, job)
	if err != nil || found.Status != dspex.JobQueued && found.Status != dspex.JobRetrying {
		return waitsFor(found, err)
	}
	ctx, cancel := context.WithTimeout(ctx, noticeLook) // whoever is no operator gets no answers
	defer cancel()
	return string(found.Status) + ": " + insight.Explain(insight.Look(ctx, c, found)).Why
}

// noticeLook is the time for what only operators may read.
const noticeLook = time.Second

// stop ends the notice and waits until nothing is drawn any more.
func (n *notice) stop() {
	n.once.Do(func() {
		n.end()
		n.done.Wait()
	})
}

// waitsFor reports what a job waits for.
func waitsFor(found dspex.Job, err error) string {
	var e *dspex.Error
	switch {
	case err == nil:
		switch found.Status {
		case dspex.JobRunning:
			return fmt.Sprintf("attempt %d runs", max(found.Attempts, 1))
		case dspex.JobQueued, dspex.JobRetrying:
			return insight.Explain(insight.Facts{Job: found}).Why
		}
		return ""
	case errors.As(err, &e) && e.Code == dspex.CodeJobUnknown:
		return "not stored yet"
	case errors.As(err, &e) && e.Code == dspex.CodeBroker:
		return "the broker is away: the call is sent again when it is back"
	}
	return "no answer yet: no dispatcher runs, or its broker is cut off"
}

// goesOn is the error of a command that stops waiting for a running job.
func goesOn(job dspex.JobRef) error {
	flag := ""
	if job.Session != "" {
		flag = " --session " + job.Session
	}
	return &cli.Failure{
		Status: cli.ExitInterrupted, Text: "interrupted; if it was accepted, the job " + job.ID + " continues",
		Hint: fmt.Sprintf("`dspex jobs wait %s%s` waits for its outcome, `dspex jobs cancel %s%s` ends it", job.ID, flag, job.ID, flag),
	}
}
