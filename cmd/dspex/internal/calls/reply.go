package calls

import (
	"errors"
	"fmt"
	"strings"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// sayReply prints the answer of a job.
func sayReply(a *cli.App, reply dspex.Reply, err error) error {
	if !a.Text() && len(reply.Raw) > 0 {
		if failed := a.Say(reply.Raw); failed != nil || err == nil {
			return failed
		}
		return cli.ErrSilent // the reply reports why
	}
	if err != nil {
		return withTextHint(err)
	}
	sayResult(a, reply)
	sayWhere(a, reply)
	return nil
}

// withTextHint shows how a number, a boolean, a list or a map is given as text, if that is what was refused.
func withTextHint(err error) error {
	e, ok := errors.AsType[*dspex.Error](err)
	name, isArg := "", false
	if ok {
		name, isArg = strings.CutPrefix(e.Path, "args.")
	}
	if !isArg || e.Hint != "" || !strings.Contains(e.Message, "must be str, not ") {
		return err
	}
	e.Hint = fmt.Sprintf(`%s=5 is a number; as text it is written %s:='"5"'`, name, name)
	return e
}

func sayResult(a *cli.App, reply dspex.Reply) {
	var result any
	if err := cli.DecodeJSON(reply.Result, &result); err != nil {
		fmt.Fprintln(a.Out, cli.Clean(string(reply.Result)))
		return
	}
	if outputs, ok := result.(map[string]any); ok && len(outputs) > 0 {
		a.Table(a.Out, "", cli.RowsOf(outputs))
		return
	}
	fmt.Fprintln(a.Out, cli.Plain(result))
}

// sayWhere adds, beside the result, where and how it was computed.
func sayWhere(a *cli.App, reply dspex.Reply) {
	parts := []string{"job " + reply.Job.ID, fmt.Sprintf("attempt %d", reply.Attempt)}
	parts = append(parts, reply.Worker, string(reply.SessionState), reply.Engine, "waited "+cli.Ms(reply.Queued), "ran "+cli.Ms(reply.Run))
	var shown []string
	for _, part := range parts {
		if part = cli.Word(part); part != "" {
			shown = append(shown, part)
		}
	}
	fmt.Fprintln(a.Err, a.Paint(a.Err, cli.Dim, strings.Join(shown, ", ")))
}
