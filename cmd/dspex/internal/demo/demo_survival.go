package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// survival is a conversation whose worker is killed after the first turn, and whose host after the second.
func (d *demo) survival(ctx context.Context) error {
	const session = "conversation_2"
	say := func(title, text string) (dspex.Reply, error) {
		return d.do(ctx, turn{title, session, "predict", dspex.Args{"text": text}})
	}
	if _, err := say("Turn 1", "My name is Ada"); err != nil {
		return err
	}
	if err := d.killWorker(ctx, session); err != nil {
		return err
	}
	if _, err := say("Turn 2", "I like chess"); err != nil {
		return err
	}
	d.event("SIGKILL of the whole host %s (pid %d); demo-2 takes over", d.host.name, d.host.cmd.Process.Pid)
	d.host.kill()
	next, err := d.startHost(ctx, "demo-2")
	if err != nil {
		return err
	}
	d.host = next
	third, err := say("Turn 3", "What do you know about me?")
	if err != nil {
		return err
	}
	prompt, err := d.lastPrompt(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.Out, "\n  %s\n", "The prompt of turn 3, as the model got it")
	shown := 0
	for _, m := range prompt {
		if m.Role != "system" {
			fmt.Fprintf(d.Out, "    %-10s %s\n", m.Role, d.Paint(d.Out, cli.Dim, shorten(m.Content, 90)))
			shown += strings.Count(m.Content, "My name is Ada") + strings.Count(m.Content, "I like chess")
		}
	}
	if shown < 2 || third.SessionState != dspex.SessionRestored {
		return fmt.Errorf("the third turn came without the first two (%d seen, state %s)", shown, third.SessionState)
	}
	return nil
}

// killWorker kills the process that holds the session; "" stands for any worker.
func (d *demo) killWorker(ctx context.Context, session string) error {
	whoami := func() (dspex.Reply, error) { return d.c.Execute(ctx, session, "whoami", nil) }
	if session == "" {
		whoami = func() (dspex.Reply, error) { return d.c.ExecuteAnonymous(ctx, "whoami", nil) }
	}
	r, err := whoami()
	if err != nil {
		return err
	}
	var who struct {
		PID    int    `json:"pid"`
		Worker string `json:"worker"`
	}
	if err := r.Decode(&who); err != nil || who.PID <= 1 {
		return errors.Join(fmt.Errorf("whoami answered %s", r.Result), err)
	}
	d.event("SIGKILL of its worker %s (pid %d)", who.Worker, who.PID)
	return syscall.Kill(who.PID, syscall.SIGKILL)
}

type promptMessage struct{ Role, Content string }

// lastPrompt reads the last prompt from the echo model.
func (d *demo) lastPrompt(ctx context.Context) ([]promptMessage, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.echo("/last?n=1"), nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	var last struct {
		Prompts []struct{ Messages []promptMessage }
	}
	if err := json.NewDecoder(resp.Body).Decode(&last); err != nil || len(last.Prompts) != 1 {
		return nil, errors.Join(fmt.Errorf("the echo model shows %d prompts", len(last.Prompts)), err)
	}
	return last.Prompts[0].Messages, nil
}

// shorten makes one line of at most n characters.
func shorten(text string, n int) string {
	if r := []rune(cli.Word(text)); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return cli.Word(text)
}
