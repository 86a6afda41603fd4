package provision

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/stream"
	"github.com/dspex/dspex/internal/wire"
)

// Programs of anonymous jobs are the one exception to "no state": create_program without a session keeps its program for an
// hour, under an id that nobody can guess; anyone who has the id may run it. It is a state like a session's, under a name
// that no session can have.

const (
	programKept   = time.Hour
	programPrefix = "anon-" // of the ids: 128 random bits in hex follow
	programIDSize = len(programPrefix) + 2*16
)

// WithProgram prepares the call of an anonymous job that makes a program or uses one. id is that of a new program, "" for
// all other jobs.
func (p *Provision) WithProgram(ctx context.Context, t *lifecycle.Task, call *frame.CallBody) (id string, e *jobs.Error) {
	switch t.Req.Command {
	case "create_program":
		random := make([]byte, 16)
		_, _ = rand.Read(random) // never fails
		id = programPrefix + hex.EncodeToString(random)
		call.Session, call.Args = programSession(id), withText(t.Req.Args, "id", id)
		return id, nil
	case "execute_program", "get_program_info":
		named := TextOf(t.Req.Args, "program_id")
		if len(named) != programIDSize || !strings.HasPrefix(named, programPrefix) {
			return "", nil
		}
		kept, err := p.on.Records.Get(ctx, t.Session.ProgramKey(named))
		if err != nil {
			return "", jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the program cannot be read: %v", err).Again()
		}
		if kept.Exists { // else the worker reports an unknown program
			call.Session, call.State, call.StateVersion = programSession(named), kept.Value, 1
		}
	}
	return "", nil
}

// programSession is the name under which a worker holds the program: it has a dot, so no session has it.
func programSession(id string) string { return "a." + id }

// KeepProgram stores a new program before anybody gets its id.
func (p *Provision) KeepProgram(of jobs.SessionRef, id string, state []byte) *jobs.Error {
	var err error
	for range tries {
		_, err = p.on.Records.PutSync(of.ProgramKey(id), state, 0, programKept)
		if err == nil || errors.Is(err, stream.ErrWrongRevision) { // nobody else has this id: an earlier try was stored
			return nil
		}
	}
	return jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the program was not stored: %v", err).Again()
}

// TextOf is the text under a key of a map, "" if there is none.
func TextOf(args []byte, key string) string {
	in := wire.NewReader(args)
	n, _ := in.Map()
	for range n {
		k, err := in.Str()
		if err != nil {
			return ""
		}
		if k == key && in.Kind() == wire.Str {
			text, _ := in.Str()
			return text
		}
		if in.Skip() != nil {
			return ""
		}
	}
	return ""
}

// validProgramID reports what a client may call a program; the worker refuses all else.
func validProgramID(id string) bool {
	return id != "" && len(id) <= 128 && strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:-") == ""
}

// withText is the map with another text under a key that holds a valid id; else it is left as it is, for the worker to refuse.
func withText(args []byte, key, value string) []byte {
	if !validProgramID(TextOf(args, key)) {
		return args
	}
	in := wire.NewReader(args)
	n, _ := in.Map()
	out := wire.AppendMap(nil, n)
	for range n {
		k, _ := in.Str()
		raw, err := in.Raw()
		if err != nil {
			return args
		}
		out = wire.AppendStr(out, k)
		if k == key {
			out = wire.AppendStr(out, value)
		} else {
			out = append(out, raw...)
		}
	}
	return out
}
