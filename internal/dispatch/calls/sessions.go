package calls

import (
	"github.com/dspex/dspex/internal/dispatch/endpoint"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

// What changes a session is a job in the session's own queue, decided by the partition's owner: these endpoints only write it
// down. The host answers, as it answers every call.

// Cleanup empties a session.
func (c *Calls) Cleanup(r endpoint.Request) { c.wholeSession(r, "cleanup_session") }

// Erase removes a session.
func (c *Calls) Erase(r endpoint.Request) { c.wholeSession(r, "erase_session") }

func (c *Calls) wholeSession(r endpoint.Request, command string) {
	var id string
	if bad := endpoint.ReadBody(r, `{"session": "..."}`, map[string]*endpoint.Entry{"session": endpoint.SessionID(&id)}); bad != nil {
		endpoint.Refuse(r, bad)
		return
	}
	c.callWith(r, id, command, map[string]any{})
}

// Import makes a session of a document of sessions.export.
func (c *Calls) Import(r endpoint.Request) {
	var id string
	var document []byte
	var replace bool
	bad := endpoint.ReadBody(r, `{"session": "...", "document": {...}, "replace": false}`, map[string]*endpoint.Entry{
		"session": endpoint.SessionID(&id), "document": endpoint.Map(&document, "a document of sessions.export").Needed(), "replace": endpoint.Bool(&replace),
	})
	if bad != nil {
		endpoint.Refuse(r, bad)
		return
	}
	c.callWith(r, id, "import_session", map[string]any{"document": wire.Raw(document), "replace": replace})
}

// callWith makes the request a call of the command.
func (c *Calls) callWith(r endpoint.Request, session, command string, args map[string]any) {
	env, bad := callHeaders(r)
	var body []byte
	if bad == nil {
		var err error
		if body, err = wire.Encode(map[string]any{"command": command, "args": args}); err == nil && env.Type == jobs.JSON {
			body, err = wire.AppendJSON(nil, body)
		}
		if err != nil {
			bad = jobs.Unreadable(err)
		}
	}
	if bad != nil {
		endpoint.Refuse(r, bad)
		return
	}
	c.accept(r, env, endpoint.SessionOf(r, session), body)
}
