package mcptools

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"slices"
	"strings"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/dspex/dspex"
)

// execute runs a command and returns its result. A client that requests progress gets partial output while it runs; one that stops waiting
// cancels the job.
func (c *call) execute(ctx context.Context, command string, args dspex.Args, options ...dspex.CallOption) (json.RawMessage, error) {
	job := dspex.JobRef{Session: c.session, ID: c.Prefix + rand.Text()}
	options = append(options, dspex.WithJobID(job.ID))
	reply, err := c.run(ctx, job, command, args, options)
	if err != nil && ctx.Err() != nil {
		c.Left(ctx, job)
	}
	if err != nil {
		return nil, err
	}
	return reply.Result, nil
}

func (c *call) run(ctx context.Context, job dspex.JobRef, command string, args dspex.Args, options []dspex.CallOption) (dspex.Reply, error) {
	token := c.request.Params.GetProgressToken()
	if token == nil {
		if job.Session == "" {
			return c.Client.ExecuteAnonymous(ctx, command, args, options...)
		}
		return c.Client.Execute(ctx, job.Session, command, args, options...)
	}
	chunks := c.Client.StreamAnonymous(ctx, command, args, options...)
	if job.Session != "" {
		chunks = c.Client.Stream(ctx, job.Session, command, args, options...)
	}
	sent, last := 0.0, dspex.Reply{}
	for chunk, err := range chunks {
		if err != nil {
			return dspex.Reply{}, err
		}
		if chunk.Reply != nil {
			last = *chunk.Reply
			continue
		}
		sent++
		text := chunk.Status
		if text == "" {
			text = chunk.Text
		}
		// One that is lost is lost: the result has all.
		_ = c.request.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: token, Progress: sent, Message: text})
	}
	return last, nil
}

// programTools are the tools of a server that are programs.
type programTools struct {
	access Access
	server *mcp.Server

	mu    sync.Mutex
	known []string // names of its tools
}

type program struct {
	ID        string `json:"id"`
	Signature *struct {
		Description string  `json:"description"`
		Inputs      []field `json:"inputs"`
		Outputs     []field `json:"outputs"`
	} `json:"signature"`
}

// refresh makes the tools of the programs that there are now: the modules', and the session's where one is chosen for all calls.
func (t *programTools) refresh(ctx context.Context) error {
	a := t.access
	if err := (&call{Access: a}).maySee(dspex.JobRef{Session: a.Session, ID: a.Prefix}); err != nil {
		return err
	}
	list := func() (dspex.Reply, error) {
		if a.Session == "" {
			return a.Client.ExecuteAnonymous(ctx, "list_programs", dspex.Args{})
		}
		return a.Client.Execute(ctx, a.Session, "list_programs", dspex.Args{})
	}
	reply, err := list()
	if err != nil {
		return err
	}
	var listed struct {
		Programs []program `json:"programs"`
	}
	if err := reply.Decode(&listed); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	gone := t.known
	t.known = nil
	for _, p := range listed.Programs {
		if toolName.MatchString(p.ID) && p.Signature != nil {
			t.server.AddTool(p.tool(), a.handle(p.run))
			t.known = append(t.known, programPrefix+p.ID)
		}
	}
	t.server.RemoveTools(slices.DeleteFunc(gone, func(name string) bool { return slices.Contains(t.known, name) })...)
	return nil
}

func (p program) tool() *mcp.Tool {
	input := withSession(schemaOf(p.Signature.Inputs))
	input["additionalProperties"] = false
	tool := &mcp.Tool{Name: programPrefix + p.ID, Description: strings.TrimSpace("Runs the program " + p.ID + ". " + p.Signature.Description), InputSchema: input}
	if len(p.Signature.Outputs) > 0 { // else they are only in its code
		tool.OutputSchema = schemaOf(p.Signature.Outputs)
	}
	return tool
}

func (p program) run(ctx context.Context, c *call) (any, error) {
	result, err := c.execute(ctx, "execute_program", dspex.Args{"program_id": p.ID, "inputs": c.args})
	if err != nil {
		return nil, err
	}
	var ran struct {
		Outputs json.RawMessage `json:"outputs"`
	}
	err = json.Unmarshal(result, &ran)
	return ran.Outputs, err
}

// withSession adds the argument that names a session.
func withSession(s schema) schema {
	properties, _ := s["properties"].(schema)
	if properties == nil {
		properties = schema{}
		s["properties"] = properties
	}
	properties[SessionArgument] = schema{"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$", "description": "Session whose state the call sees and changes. Without one it has none"}
	return s
}
