package mcptools

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/contract"
)

// command is a tool that every server has.
type command struct {
	name, about string
	properties  schema
	required    []string
	readOnly    bool
	run         func(context.Context, *call) (any, error)
}

func (c command) tool() *mcp.Tool {
	required := c.required
	if required == nil {
		required = []string{}
	}
	input := withSession(schema{"type": "object", "properties": copied(c.properties), "required": required, "additionalProperties": false})
	return &mcp.Tool{Name: c.name, Description: c.about, InputSchema: input, Annotations: &mcp.ToolAnnotations{ReadOnlyHint: c.readOnly}}
}

func textSchema(about string) schema { return schema{"type": "string", "description": about} }

func objectSchema(about string) schema { return schema{"type": "object", "description": about} }

var (
	programID = textSchema("Id of the program")
	signature = schema{"anyOf": []any{schema{"type": "string"}, schema{"type": "object"}}, "description": "Text such as \"question -> answer: int\", or the map form"}
	module    = schema{"enum": []any{"predict", "chain_of_thought", "react"}}
	jobID     = schema{"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$", "description": "Id of the job"}
)

// commands are the tools: the commands of contract/commands.md that clients may run, any other one by name, and jobs that are stored.
var commands = []command{
	{name: "predict", about: "Calls the language model with a signature: inputs by name in, outputs by name out.", required: []string{"inputs"}, run: predict,
		properties: schema{"inputs": objectSchema("Inputs by name, such as {\"question\": \"...\"}"), "signature": signature, "module": module}},
	{name: "create_program", about: "Keeps a program in the session.", required: []string{"id", "signature"}, run: plain("create_program"),
		properties: schema{"id": programID, "signature": signature, "program_type": module}},
	{name: "execute_program", about: "Runs a program of the session or of the operator.", required: []string{"program_id", "inputs"}, run: plain("execute_program"),
		properties: schema{"program_id": programID, "inputs": objectSchema("Inputs by name")}},
	{name: "list_programs", about: "Lists programs with their signatures.", run: plain("list_programs"), readOnly: true},
	{name: "get_program_info", about: "Describes one program.", required: []string{"program_id"}, run: plain("get_program_info"), readOnly: true, properties: schema{"program_id": programID}},
	{name: "delete_program", about: "Removes a program of the session.", required: []string{"program_id"}, run: plain("delete_program"), properties: schema{"program_id": programID}},
	{name: "get_session_data", about: "Reads the session's data.", run: plain("get_session_data"), readOnly: true},
	{name: "update_session_data", about: "Changes the session's data.", required: []string{"operation"}, run: plain("update_session_data"),
		properties: schema{"operation": schema{"enum": []any{"set", "delete", "merge"}}, "key": textSchema("What to set or delete"), "value": schema{"description": "What to set, or a map to merge"}}},
	{name: "cleanup_session", about: "Removes all of the session's state.", run: plain("cleanup_session")},
	{name: "run_command", about: "Runs any command, such as one of the operator's modules.", required: []string{"command"}, run: runCommand,
		properties: schema{"command": textSchema("Name of the command"), "args": objectSchema("Its arguments")}},
	{name: "submit_job", about: "Stores a command as a job and answers at once with its id. The same id again is the same job.", required: []string{"command"}, run: submit,
		properties: schema{"command": textSchema("Name of the command"), "args": objectSchema("Its arguments"), "job": jobID}},
	{name: "wait_job", about: "Waits until a job has ended, at most wait_ms, and returns its state.", required: []string{"job"}, run: wait, readOnly: true,
		properties: schema{"job": jobID, "wait_ms": schema{"type": "integer", "minimum": 0, "maximum": mostWait.Milliseconds(), "default": standardWait.Milliseconds()}}},
	{name: "cancel_job", about: "Ends a job early and returns how it ended.", required: []string{"job"}, run: cancel, properties: schema{"job": jobID}},
}

const (
	standardWait = 30 * time.Second
	mostWait     = 10 * time.Minute
)

// passed are arguments as they came: a number keeps its digits.
func passed(raw map[string]json.RawMessage) dspex.Args {
	args := dspex.Args{}
	for name, value := range raw {
		args[name] = value
	}
	return args
}

// plain runs the command of the tool's name with the tool's arguments.
func plain(name string) func(context.Context, *call) (any, error) {
	return func(ctx context.Context, c *call) (any, error) {
		if err := c.mayRun(name, c.args); err != nil {
			return nil, err
		}
		return whole(c.execute(ctx, name, passed(c.args)))
	}
}

// whole makes an object of a result, since structured content is one.
func whole(result json.RawMessage, err error) (any, error) {
	if err == nil && (len(result) == 0 || result[0] != '{') {
		return map[string]any{"result": result}, nil
	}
	return result, err
}

// read decodes the arguments, whose names must be known.
func (c *call) read(into any, known ...string) error {
	left := passed(c.args)
	for _, name := range known {
		delete(left, name)
	}
	for name := range left {
		return refused(contract.CodeBadInput, name, "left out", "there is no such argument")
	}
	text, err := json.Marshal(c.args)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return refused(contract.CodeBadInput, "arguments", "as in the tool's schema", "the arguments are not of the expected types")
	}
	return nil
}

func predict(ctx context.Context, c *call) (any, error) {
	var in struct {
		Inputs    map[string]json.RawMessage
		Signature json.RawMessage
		Module    string
	}
	if err := c.read(&in, "inputs", "signature", "module"); err != nil {
		return nil, err
	}
	var options []dspex.CallOption
	if len(in.Signature) > 0 {
		options = append(options, dspex.WithSignature(in.Signature))
	}
	if in.Module != "" {
		options = append(options, dspex.WithModule(in.Module))
	}
	return whole(c.execute(ctx, "predict", passed(in.Inputs), options...))
}

type commandInput struct {
	Command string
	Args    map[string]json.RawMessage
	Job     string
}

func runCommand(ctx context.Context, c *call) (any, error) {
	var in commandInput
	if err := c.read(&in, "command", "args"); err != nil {
		return nil, err
	}
	if err := c.mayRun(in.Command, in.Args); err != nil {
		return nil, err
	}
	return whole(c.execute(ctx, in.Command, passed(in.Args)))
}

func submit(ctx context.Context, c *call) (any, error) {
	var in commandInput
	if err := c.read(&in, "command", "args", "job"); err != nil {
		return nil, err
	}
	if err := c.mayRun(in.Command, in.Args); err != nil {
		return nil, err
	}
	job := dspex.JobRef{Session: c.session, ID: in.Job}
	if job.ID == "" {
		job.ID = c.Prefix + rand.Text()
	}
	if err := c.maySee(job); err != nil {
		return nil, err
	}
	var err error
	if job.Session == "" {
		_, err = c.Client.SubmitAnonymous(ctx, dspex.LaneInteractive, in.Command, passed(in.Args), dspex.WithJobID(job.ID))
	} else {
		_, err = c.Client.Submit(ctx, job.Session, in.Command, passed(in.Args), dspex.WithJobID(job.ID))
	}
	return map[string]any{"job": job.ID, SessionArgument: job.Session, "outcome": dspex.JobQueued}, err
}

func wait(ctx context.Context, c *call) (any, error) {
	in := struct {
		Job    string
		WaitMS *int64 `json:"wait_ms"`
	}{}
	if err := c.read(&in, "job", "wait_ms"); err != nil {
		return nil, err
	}
	job, most := dspex.JobRef{Session: c.session, ID: in.Job}, standardWait
	if in.WaitMS != nil {
		most = time.Duration(*in.WaitMS) * time.Millisecond
	}
	if most < 0 || most > mostWait {
		return nil, refused(contract.CodeBadInput, "wait_ms", "0 to 600000", "the wait is out of range")
	}
	if err := c.maySee(job); err != nil {
		return nil, err
	}
	return stateOf(Ended(ctx, c.Client, job, most))
}

// knownWithin is how long a job that was stored a moment ago may be unknown to a replica of the broker.
const knownWithin = 2 * time.Second

// Ended waits until a job has ended, at most so long, and returns its state. For a job that is not known it waits no longer than one that
// was just stored needs.
func Ended(ctx context.Context, client *dspex.Client, job dspex.JobRef, most time.Duration) (dspex.Job, error) {
	first := min(most, knownWithin)
	waitFor(ctx, client, job, first)
	found, err := client.GetJob(ctx, job)
	if err != nil || found.Status.Final() || most == first {
		return found, err
	}
	waitFor(ctx, client, job, most-first)
	return client.GetJob(ctx, job)
}

// waitFor waits for the end of a job. How it ended, or that it is not known, is read afterwards.
func waitFor(ctx context.Context, client *dspex.Client, job dspex.JobRef, most time.Duration) {
	if most <= 0 {
		return
	}
	bounded, end := context.WithTimeout(ctx, most)
	defer end()
	_, _ = client.Wait(bounded, job)
}

func cancel(ctx context.Context, c *call) (any, error) {
	var in struct{ Job string }
	if err := c.read(&in, "job"); err != nil {
		return nil, err
	}
	job := dspex.JobRef{Session: c.session, ID: in.Job}
	if err := c.maySee(job); err != nil {
		return nil, err
	}
	return stateOf(c.Client.Cancel(ctx, job))
}

func stateOf(job dspex.Job, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	state := map[string]any{"job": job.ID, SessionArgument: job.Session, "outcome": job.Status, "attempts": job.Attempts}
	if job.Reply != nil {
		state["reply"] = job.Reply.Raw
	}
	return state, nil
}
