// Package mcptools offers programs and commands of dspex as tools of the Model Context Protocol.
package mcptools

import (
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/contract"
)

// Access is whose tools they are.
type Access struct {
	Client  *dspex.Client
	Prefix  string // what its sessions, and its ids of anonymous jobs, begin with
	Session string // of calls that name none
	// Left cancels the job of a call whose client is gone.
	Left func(context.Context, dspex.JobRef)
}

// SessionArgument is the argument of every tool that names the session.
const SessionArgument = "dspex_session"

// SessionHeader names the session of calls that name none, over HTTP.
const SessionHeader = contract.HeaderSession

const instructions = `Tools run commands of dspex. Calls with the same ` + SessionArgument + ` share state and run one at a time, in the order accepted; without one a call has no state.
What takes long is for submit_job, which answers at once, and wait_job; both survive restarts.`

// call is one call of a tool.
type call struct {
	Access
	request *mcp.CallToolRequest
	args    map[string]json.RawMessage
	session string
}

// handle reads the arguments, and makes an answer of what fails: anyone who calls tools can read it and do better.
func (a Access) handle(run func(context.Context, *call) (any, error)) mcp.ToolHandler {
	return func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		c := &call{Access: a, request: req, args: map[string]json.RawMessage{}, session: a.Session}
		result, err := any(nil), error(nil)
		if len(req.Params.Arguments) > 0 {
			err = json.Unmarshal(req.Params.Arguments, &c.args)
		}
		if err != nil {
			err = refused(contract.CodeBadInput, "arguments", "a JSON object", "the arguments are no map")
		} else if err = c.chooseSession(); err == nil {
			result, err = run(ctx, c)
		}
		if err != nil {
			return failed(err), nil
		}
		text, err := json.Marshal(result)
		if err != nil {
			return failed(err), nil
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: string(text)}}, StructuredContent: json.RawMessage(text)}, nil
	}
}

// chooseSession takes the session out of the arguments.
func (c *call) chooseSession() error {
	if given, ok := c.args[SessionArgument]; ok {
		delete(c.args, SessionArgument)
		if json.Unmarshal(given, &c.session) != nil {
			return refused(contract.CodeBadSession, SessionArgument, contract.ExpectedSession, "the session is no text")
		}
	}
	if c.session != "" && !contract.ValidSession(c.session) {
		return refused(contract.CodeBadSession, SessionArgument, contract.ExpectedSession, "the session id is not valid")
	}
	return c.maySee(dspex.JobRef{Session: c.session, ID: c.Prefix})
}

func (c *call) maySee(job dspex.JobRef) error {
	if job.Session != "" && !strings.HasPrefix(job.Session, c.Prefix) || job.Session == "" && !strings.HasPrefix(job.ID, c.Prefix) {
		return refused("session_denied", SessionArgument, "names that begin with "+c.Prefix, "the token is for other sessions and jobs")
	}
	return nil
}

// mayRun refuses what is for operators: they have other ways.
func (c *call) mayRun(command string, args map[string]json.RawMessage) error {
	_, named := args[contract.ArgSession]
	if contract.RoleNeeded(command, c.session != "") != "" || named && c.session == "" && contract.TakesSession(command) {
		return refused(contract.CodeRole, "command", "a command of clients, and the session in "+SessionArgument, "the command is for operators")
	}
	return nil
}

func refused(code, path, expected, text string) error {
	return &dspex.Error{Code: code, Path: path, Expected: expected, Message: text}
}

// failed is the answer to a call that failed: the error of the contract.
func failed(err error) *mcp.CallToolResult {
	e, ok := errors.AsType[*dspex.Error](err)
	if !ok {
		e = &dspex.Error{Category: dspex.ErrSystem, Code: contract.CodeBug, Message: "the gateway failed"}
	}
	text, _ := json.Marshal(e) // texts and numbers
	return &mcp.CallToolResult{IsError: true, Content: []mcp.Content{&mcp.TextContent{Text: string(text)}}}
}

// programPrefix is what the names of tools begin with that are programs.
const programPrefix = "program_"

// toolName are the ids of programs that can be part of a tool's name everywhere. Others are for execute_program.
var toolName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,55}$`)
