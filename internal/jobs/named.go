package jobs

import (
	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/wire"
)

// Named is the session that the argument session_id names, "" if there is none. It counts for a call whose subject names none.
func (r Request) Named() (string, *Error) {
	if !contract.TakesSession(r.Command) {
		return "", nil
	}
	in := wire.NewReader(r.Args)
	n, err := in.Map()
	if err != nil {
		return "", Unreadable(err)
	}
	for range n {
		key, _ := in.Str()
		switch {
		case key != contract.ArgSession:
			if e := skip(in); e != nil {
				return "", e
			}
			continue
		case in.Nil():
			return "", nil
		case in.Kind() != wire.Str:
			return "", Refused(CodeBadInput, "args."+key, "a session's id: "+contract.ExpectedSession, "%s: %s must be text", r.Command, key)
		}
		id, err := in.Str()
		if err != nil || !ValidSession(id) {
			e := Errorf(Session, CodeBadSession, "the session id is not allowed")
			e.Path, e.Expected = "args."+key, contract.ExpectedSession
			return "", e
		}
		return id, nil
	}
	return "", nil
}
