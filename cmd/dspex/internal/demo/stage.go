package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/devserver"
)

// demo is what its scenes share.
type demo struct {
	*cli.App
	c    *dspex.Client
	info devserver.Info
	dir  string
	host *demoHost
}

// demoHost is a worker-host that the demo started.
type demoHost struct {
	name  string
	cmd   *exec.Cmd
	ended chan error
}

// turn is one request of the demo.
type turn struct {
	title   string
	session string // empty: anonymous
	command string
	args    dspex.Args
}

func (d *demo) note(format string, args ...any) { fmt.Fprintf(d.Out, format+"\n", args...) }

// do sends a request and shows it with its answer.
func (d *demo) do(ctx context.Context, t turn, options ...dspex.CallOption) (r dspex.Reply, err error) {
	subject := contract.RPCAnonymous
	if t.session == "" {
		r, err = d.c.ExecuteAnonymous(ctx, t.command, t.args, options...)
	} else {
		subject = contract.RPCSession + t.session
		r, err = d.c.Execute(ctx, t.session, t.command, t.args, options...)
	}
	body, merr := json.Marshal(struct {
		Command string     `json:"command"`
		Args    dspex.Args `json:"args"`
	}{t.command, t.args})
	if merr != nil {
		return r, merr
	}
	rows := []cli.Row{{"request", subject}, {"", ""}, {"body", string(body)}}
	if err == nil {
		rows = append(rows, cli.Row{"answer", cli.Word(string(r.Result))})
		if t.session != "" {
			rows = append(rows, cli.Row{"session", fmt.Sprintf("worker %s, state %s", r.Worker, d.Paint(d.Out, cli.Bold, string(r.SessionState)))})
		}
	}
	fmt.Fprintf(d.Out, "\n  %s\n", t.title)
	d.Table(d.Out, "    ", rows)
	return r, err
}

// event announces a fault that the demo injects.
func (d *demo) event(format string, args ...any) {
	fmt.Fprintf(d.Out, "\n  %s %s\n", d.Paint(d.Out, cli.Red, "✗"), fmt.Sprintf(format, args...))
}

// mended reports that the demo takes it back.
func (d *demo) mended(format string, args ...any) {
	fmt.Fprintf(d.Out, "\n  %s %s\n", d.Paint(d.Out, cli.Green, "✓"), fmt.Sprintf(format, args...))
}
