package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/contract"
)

// failure is a language model that requests patience, goes down, and comes back.
func (d *demo) failure(ctx context.Context) error {
	alerted, stop, err := d.alerts()
	if err != nil {
		return err
	}
	defer stop()
	ask := func(title, question string, options ...dspex.CallOption) (dspex.Reply, time.Duration, error) {
		began := time.Now()
		r, err := d.do(ctx, turn{title, "failure_1", "predict", dspex.Args{"question": question}}, options...)
		return r, time.Since(began), err
	}
	if err := d.misbehave(ctx, "status=429,ra=1,times=1", "The model answers 429 once, with Retry-After: 1"); err != nil {
		return err
	}
	r, took, err := ask("A call that needs patience", "Are you there?")
	if err != nil {
		return err
	}
	d.show("attempt %d, after the second that the model requested (%.1f s in all)", r.Attempt, took.Seconds())

	if err := d.misbehave(ctx, "status=503", "The model goes down: 503 from now on"); err != nil {
		return err
	}
	if err := d.failUntilOpen(ctx); err != nil {
		return err
	}
	_, took, err = ask("A call while the breaker is open", "And now?")
	e := (*dspex.Error)(nil)
	if !errors.As(err, &e) || e.Code != "breaker_open" {
		return fmt.Errorf("expected a call that fails fast, got %w", err)
	}
	d.show("%s %s after %d ms: retry in %.1f s", e.Category, e.Code, took.Milliseconds(), e.RetryAfter.Seconds())
	receipt, err := d.c.Submit(ctx, "failure_2", "predict", dspex.Args{"question": "I can wait"})
	if err != nil {
		return err
	}
	d.show("a submitted job (%s) waits unharmed", receipt.Job.ID)

	if err := d.misbehave(ctx, "", "The model is back"); err != nil {
		return err
	}
	waited, err := d.c.Wait(ctx, receipt.Job)
	if err != nil {
		return err
	}
	d.show("the job that waited: %s (attempt %d)", cli.Word(string(waited.Result)), waited.Attempt)
	for range 2 {
		if _, err := d.c.Execute(ctx, "failure_1", "predict", dspex.Args{"question": "Well again?"}); err != nil {
			return err
		}
	}
	if err := d.showBreaker(ctx, dspex.BreakerClosed); err != nil {
		return err
	}
	if err := d.replayOne(ctx); err != nil {
		return err
	}
	return d.showAlert(ctx, alerted)
}

// alerts listens for alerts about the error rate.
func (d *demo) alerts() (alerted <-chan *nats.Msg, stop func(), err error) {
	nc, err := nats.Connect(d.info.URL)
	if err != nil {
		return nil, nil, err
	}
	events := make(chan *nats.Msg, 8)
	if _, err = nc.ChanSubscribe(contract.SubjectAlert, events); err == nil {
		err = nc.Flush()
	}
	if err != nil {
		nc.Close()
	}
	return events, nc.Close, err
}

// showAlert shows the alert that operators get: hosts report once a second how their jobs ended.
func (d *demo) showAlert(ctx context.Context, alerted <-chan *nats.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	select {
	case m := <-alerted:
		var a struct {
			Threshold float64 `json:"threshold"`
			Errors    int     `json:"errors"`
			Total     int     `json:"total"`
		}
		if err := json.Unmarshal(m.Data, &a); err != nil {
			return err
		}
		d.show("alert to log, telemetry or webhook: %d of %d jobs failed within a minute, more than %.0f %%", a.Errors, a.Total, 100*a.Threshold)
		return nil
	case <-ctx.Done():
		return errors.New("expected an alert about the error rate")
	}
}

// failUntilOpen lets calls fail until the model's breaker opens; each of them is a dead letter.
func (d *demo) failUntilOpen(ctx context.Context) error {
	const most = 10
	for n := 1; n <= most; n++ {
		_, err := d.c.Execute(ctx, "failure_1", "predict", dspex.Args{"question": fmt.Sprintf("Question %d", n)}, dspex.WithMaxRetries(0))
		e := (*dspex.Error)(nil)
		if !errors.As(err, &e) {
			return fmt.Errorf("expected a failure of the model, got %w", err)
		}
		if e.Code == "breaker_open" {
			break
		}
		d.show("call %d: %s %s", n, e.Category, e.Code)
	}
	return d.showBreaker(ctx, dspex.BreakerOpen)
}

// showBreaker shows the model's breaker, and insists on its state.
func (d *demo) showBreaker(ctx context.Context, want dspex.BreakerState) error {
	list, err := d.c.Admin().Breakers(ctx)
	if err != nil {
		return err
	}
	for _, b := range list {
		if !strings.HasPrefix(b.Name, "lm.") {
			continue
		}
		d.show("breaker %s: %s", b.Name, d.Paint(d.Out, cli.Bold, string(b.State)))
		if b.State != want {
			return fmt.Errorf("breaker %s is %s, expected %s", b.Name, b.State, want)
		}
		return nil
	}
	return errors.New("the language model has no breaker")
}

// replayOne replays the first of the dead letters.
func (d *demo) replayOne(ctx context.Context) error {
	for letter, err := range d.c.Admin().DeadLetters(ctx, dspex.DeadLetterFilter{Session: "failure_1"}) {
		if err != nil {
			return err
		}
		d.show("dead letter %d: %s, %s %s", letter.Sequence, letter.Command, letter.Category, letter.Code)
		replay, err := d.c.Admin().ReplayDeadLetter(ctx, letter.Sequence)
		if err != nil {
			return err
		}
		r, err := d.c.Wait(ctx, replay.Job)
		if err != nil {
			return err
		}
		d.show("replayed as %s: %s", replay.Job.ID, cli.Word(string(r.Result)))
		return nil
	}
	return errors.New("there is no dead letter")
}

// misbehave scripts the echo model and reports it; the empty script has it behave.
func (d *demo) misbehave(ctx context.Context, script, what string) error {
	body, err := json.Marshal(map[string]string{"script": script})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.echo("/control"), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the echo model refused the script %q: %s", script, resp.Status)
	}
	if script == "" {
		d.mended("%s", what)
	} else {
		d.event("%s", what)
	}
	return nil
}

// show prints the result of a step, indented below it.
func (d *demo) show(format string, args ...any) { fmt.Fprintf(d.Out, "    "+format+"\n", args...) }
