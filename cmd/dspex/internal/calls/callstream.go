package calls

import (
	"context"
	"fmt"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

func streamCall(ctx context.Context, a *cli.App, c *dspex.Client, command string, args dspex.Args, f *callFlags, options []dspex.JobOption) error {
	of := callOptions(options)
	chunks := c.StreamAnonymous(ctx, command, args, of...)
	if f.session != "" {
		chunks = c.Stream(ctx, f.session, command, args, of...)
	}
	note := watch(ctx, a, c, f.ref())
	defer note.stop()
	view := streamView{app: a}
	for chunk, err := range chunks {
		note.stop()
		switch {
		case err != nil:
			view.end()
			if ctx.Err() != nil {
				return goesOn(f.ref())
			}
			return err
		case chunk.Reply != nil:
			view.end()
			return view.last(*chunk.Reply)
		default:
			if err := view.show(chunk); err != nil {
				return err
			}
		}
	}
	return nil
}

// streamView prints the parts of one answer.
type streamView struct {
	app     *cli.App
	field   string
	attempt int
	open    bool // the line has text and no end
	shown   bool
}

func (v *streamView) show(chunk dspex.Chunk) error {
	a := v.app
	switch {
	case a.Output == "jsonl":
		note := map[string]any{"attempt": chunk.Attempt, "n": chunk.N, "field": chunk.Field, "chunk": chunk.Text, "status": chunk.Status}
		if chunk.Call > 0 {
			note["call"] = chunk.Call
		}
		return a.Say(note)
	case !a.Text():
		return nil
	}
	if v.attempt != 0 && chunk.Attempt != v.attempt {
		v.end()
		fmt.Fprintln(a.Err, a.Paint(a.Err, cli.Dim, fmt.Sprintf("attempt %d starts over", chunk.Attempt)))
		v.field = ""
	}
	v.attempt = chunk.Attempt
	if chunk.Status != "" {
		v.end()
		fmt.Fprintln(a.Err, a.Paint(a.Err, cli.Dim, cli.Word(chunk.Status)))
		return nil
	}
	if chunk.Field != v.field {
		v.end()
		v.field = chunk.Field
		fmt.Fprint(a.Out, a.Paint(a.Out, cli.Dim, cli.Word(chunk.Field)), "  ")
	}
	_, err := fmt.Fprint(a.Out, cli.Clean(chunk.Text))
	v.open, v.shown = true, true
	return err
}

func (v *streamView) end() {
	if v.open {
		fmt.Fprintln(v.app.Out)
		v.open = false
	}
}

// last prints the whole answer where its parts were not, and adds the outputs that do not stream.
func (v *streamView) last(reply dspex.Reply) error {
	if !v.app.Text() || !v.shown {
		return sayReply(v.app, reply, nil)
	}
	if outputs := reply.Outputs(); len(outputs) > 1 {
		sayResult(v.app, reply)
	}
	sayWhere(v.app, reply)
	return nil
}
