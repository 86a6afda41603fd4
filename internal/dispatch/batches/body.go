package batches

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dspex/dspex/internal/batch"
	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

// Invalid is a job that cannot be run, and why.
type Invalid struct {
	Index int
	Err   *jobs.Error
}

const mostName = 128 // bytes of a submitter's name for a job

const jobShape = `{"session": "...", "id": "...", "command": "...", "args": {...}, "options": {...}}`

// readLines checks jobs as each is checked that comes alone. list is an array in canonical MessagePack.
func (s *store) readLines(tenant string, first int, list []byte) (*batch.Chunk, []Invalid, *jobs.Error) {
	in := wire.NewReader(list)
	n, err := in.Array()
	if err != nil || n < 1 || n > batch.MaxChunk {
		return nil, nil, jobs.Refused(jobs.CodeBadRequest, "jobs", fmt.Sprintf("1 to %d jobs in a list", batch.MaxChunk), "a request has %d jobs", n)
	}
	c := &batch.Chunk{First: first, Lines: make([]batch.Line, n)}
	var invalid []Invalid
	for i := range c.Lines {
		raw, err := in.Raw()
		if err != nil {
			return nil, nil, jobs.Unreadable(err)
		}
		bad := s.readLine(tenant, raw, &c.Lines[i])
		if bad != nil {
			c.Lines[i].Body, c.Lines[i].Bad = nil, (&jobs.Reply{Err: bad}).Append(nil)
			invalid = append(invalid, Invalid{first + i, bad})
		}
	}
	return c, invalid, nil
}

// readLine takes a job apart: what is the batch's, and the request as it will be published.
func (s *store) readLine(tenant string, raw []byte, l *batch.Line) (bad *jobs.Error) {
	l.Body, bad = takeApart(raw, jobShape, func(key string, value []byte) (own bool, bad *jobs.Error) {
		if key != "session" && key != "id" {
			return false, nil
		}
		return true, named(l, key, value)
	})
	if bad != nil {
		return bad
	}
	return s.check(tenant, l)
}

// takeApart reads a job. own takes the keys that are not the request's; body is the others.
func takeApart(raw []byte, shape string, own func(key string, value []byte) (bool, *jobs.Error)) (body []byte, bad *jobs.Error) {
	in := wire.NewReader(raw)
	if in.Kind() != wire.Map {
		return nil, jobs.Refused(jobs.CodeBadRequest, "", shape, "the job is not a map")
	}
	n, err := in.Map()
	if err != nil {
		return nil, jobs.Unreadable(err)
	}
	var rest []byte
	left := 0
	for range n {
		key, _ := in.Str()
		value, err := in.Raw()
		if err != nil {
			return nil, jobs.Unreadable(err)
		}
		taken, e := own(key, value)
		if bad == nil {
			bad = e
		}
		if !taken {
			rest = append(wire.AppendStr(rest, key), value...)
			left++
		}
	}
	return append(wire.AppendMap(nil, left), rest...), bad
}

func named(l *batch.Line, key string, value []byte) *jobs.Error {
	in := wire.NewReader(value)
	if in.Nil() {
		return nil
	}
	text, err := in.Str()
	switch {
	case key == "session" && (err != nil || !jobs.ValidSession(text)):
		e := jobs.Errorf(jobs.Session, jobs.CodeBadSession, "the session id is not allowed")
		e.Path, e.Expected = "session", contract.ExpectedSession
		return e
	case key == "id" && (err != nil || text == "" || len(text) > mostName):
		return jobs.Refused(jobs.CodeBadRequest, "id", fmt.Sprintf("text of 1 to %d bytes", mostName), "the id is not allowed")
	case key == "session":
		l.Session = text
	default:
		l.ID = text
	}
	return nil
}

// check refuses a job that could not be published, or whose command its submitter may not use.
func (s *store) check(tenant string, l *batch.Line) *jobs.Error {
	req, bad := jobs.ParseRequest(jobs.MsgPack, l.Body, s.MaxPayload/2)
	if bad != nil {
		if bad.Expected == jobs.BodyKeys {
			bad.Expected += ", session, id"
		}
		return bad
	}
	role := jobs.RoleClient // published jobs never have another one
	if !s.Accounts() {
		role = jobs.RoleOperator
	}
	if l.Session == "" {
		id, bad := req.Named()
		switch {
		case bad != nil:
			return bad
		case id != "" && role == jobs.RoleClient:
			return jobs.Refused(jobs.CodeRole, "args.session_id", "no session_id here", "%s names a session by an argument, which needs the operator role", req.Command).
				WithHint("name it by the job's key session")
		}
		l.Session = id
	}
	return role.Forbids(req, jobs.SessionRef{Tenant: tenant, ID: l.Session})
}

func (s *store) mayReply(subject string) bool {
	if s.Accounts() {
		return contract.ValidReplyUnder(contract.SubjectReply, subject)
	}
	return jobs.ValidReply(subject)
}

// body is a request's map, read key by key.
type body struct {
	in   *wire.Reader
	keys map[string]func(in *wire.Reader) bool
	what map[string]string // key -> what it must be
	seen []string
}

// newBody reads a request in either form.
func newBody(kind string, data []byte) (*body, *jobs.Error) {
	kind, bad := jobs.ContentType(kind)
	if bad != nil {
		return nil, bad
	}
	if len(data) == 0 {
		data, kind = wire.AppendMap(nil, 0), jobs.MsgPack
	}
	var err error
	if kind == jobs.JSON {
		data, err = wire.FromJSON(data, wire.Request)
	} else {
		data, err = wire.Canonical(data, wire.Request)
	}
	if err != nil {
		return nil, jobs.Unreadable(err)
	}
	return &body{in: wire.NewReader(data), keys: map[string]func(*wire.Reader) bool{}, what: map[string]string{}}, nil
}

func (b *body) may(key, what string, take func(in *wire.Reader) bool) {
	b.keys[key], b.what[key] = take, what
}

func (b *body) text(key, what string, to *string, allowed func(string) bool) {
	b.may(key, what, func(in *wire.Reader) bool {
		v, err := in.Str()
		*to = v
		return err == nil && allowed(v)
	})
}

func (b *body) number(key string, least, most int64, to *int64) {
	b.may(key, fmt.Sprintf("an integer, %d to %d", least, most), func(in *wire.Reader) bool {
		if in.Kind() != wire.Int {
			return false
		}
		v, err := in.Int()
		*to = v
		return err == nil && v >= least && v <= most
	})
}

func (b *body) flag(key string, to *bool) {
	b.may(key, "true or false", func(in *wire.Reader) bool {
		v, err := in.Bool()
		*to = v
		return err == nil
	})
}

func (b *body) batch(to *string) { b.text("batch", batch.ExpectedID, to, batch.ValidID) }

// read takes all keys. Those in needed must be there.
func (b *body) read(needed ...string) *jobs.Error {
	n, err := b.in.Map()
	if err != nil {
		return jobs.Refused(jobs.CodeBadRequest, "", "a map", "the body is not a map")
	}
	for range n {
		key, _ := b.in.Str()
		take, known := b.keys[key]
		if !known {
			names := make([]string, 0, len(b.keys))
			for name := range b.keys {
				names = append(names, name)
			}
			slices.Sort(names)
			return jobs.Refused(jobs.CodeBadRequest, jobs.Clip(key), strings.Join(names, ", "), "unknown key in the body")
		}
		value, err := b.in.Raw()
		if err != nil {
			return jobs.Unreadable(err)
		}
		in := wire.NewReader(value)
		if in.Nil() {
			continue
		}
		if !take(in) {
			return jobs.Refused(jobs.CodeBadRequest, key, b.what[key], "%s is not allowed", key)
		}
		b.seen = append(b.seen, key)
	}
	for _, key := range needed {
		if !slices.Contains(b.seen, key) {
			return jobs.Refused(jobs.CodeBadRequest, key, b.what[key], "%s is missing", key)
		}
	}
	return nil
}
