package mock

import (
	"maps"
	"slices"
	"strings"

	"github.com/dspex/dspex/internal/frame"
)

// call is one attempt: the request, and the session's state before and after.
type call struct {
	frame.CallBody
	slot    slot
	args    map[string]any
	options map[string]any
	partial func([]byte)
	state   *state // nil: no session
	changed bool
	choice  map[string]any // of language model, without a session
}

// session is the id of the call's session, "" if there is none.
func (c *call) session() string { return c.Session[strings.LastIndexByte(c.Session, '/')+1:] }

func (c *call) check(cmd command) *failure {
	if cmd.args != nil {
		for _, name := range slices.Sorted(maps.Keys(c.args)) {
			if !slices.Contains(cmd.args, name) && !(cmd.named && name == "session_id") {
				return badInput("args."+name, strings.Join(cmd.args, ", "), "%s: unknown arguments: %s", c.Command, name)
			}
		}
	}
	id := c.args["session_id"]
	if c.state == nil && (cmd.session || cmd.named && id != nil) {
		return &failure{category: "session", code: "session_required", message: c.Command + " works on the state of a session, and this call has none",
			hint: "send it to a session (dspex.rpc.session.<id>, or --session ID)"}
	}
	if cmd.named && id != nil && id != c.session() {
		return &failure{category: "session", code: "session_mismatch", message: c.Command + ": session_id names another session than the one that this job runs in",
			path: "args.session_id", expected: "the session that the job runs in, or nothing"}
	}
	return nil
}

// text is an argument that must be there.
func (c *call) text(name string) (string, *failure) {
	v, _ := c.args[name].(string)
	if v == "" {
		return "", badInput("args."+name, "text that is not empty", "%s: %s must be text that is not empty", c.Command, name)
	}
	return v, nil
}

// stream sends the outputs in pieces to a caller that requests that.
func (c *call) stream(outputs map[string]any) {
	if c.options["stream"] != true || c.partial == nil {
		return
	}
	n := uint64(0)
	for _, name := range slices.Sorted(maps.Keys(outputs)) {
		text, ok := outputs[name].(string)
		if !ok {
			text = spelled(outputs[name])
		}
		for _, piece := range strings.SplitAfter(text, " ") {
			c.partial(frame.ChunkBody{N: n, Field: name, Chunk: piece}.AppendBody(nil))
			n++
		}
	}
}

// run runs the command on a copy of the state, so that what fails changes nothing.
func (c *call) run() (any, *failure) {
	cmd, known := commands[c.Command]
	if !known {
		if v, ok := c.slot.p.scenario.result(c.Command, c.args); ok {
			return v, nil
		}
		names := slices.Sorted(maps.Keys(commands))
		return nil, &failure{category: "python", code: "unknown_command", message: "unknown command " + c.Command, path: "command", expected: strings.Join(names, ", "),
			hint: "mock_adapter runs no modules: a rule of the scenario with a result replaces their commands"}
	}
	if e := c.check(cmd); e != nil {
		return nil, e
	}
	return cmd.run(c)
}
