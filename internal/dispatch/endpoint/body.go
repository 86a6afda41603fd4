package endpoint

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

// AgeMost is the longest time that a filter may name.
const AgeMost = 366 * 24 * time.Hour

// SessionShape is what a session id, and a tenant's name, must be.
const SessionShape = "1 to 64 of A-Z a-z 0-9 _ -"

// Entry is one key of a request's body: what it may be, and how its value is taken.
type Entry struct {
	expected string
	kind     wire.Kind
	take     func(in *wire.Reader) bool // false: the value is not allowed
	required bool
	given    bool
}

// Text is a text that is allowed.
func Text(to *string, expected string, allowed func(string) bool) *Entry {
	return &Entry{expected: expected, kind: wire.Str, take: func(in *wire.Reader) bool {
		v, err := in.Str()
		*to = v
		return err == nil && allowed(v)
	}}
}

// Int is a number between two bounds.
func Int(to *int64, what string, least, most int64) *Entry {
	return &Entry{expected: fmt.Sprintf("%s, %d to %d", what, least, most), kind: wire.Int, take: func(in *wire.Reader) bool {
		v, err := in.Int()
		*to = v
		return err == nil && v >= least && v <= most
	}}
}

// Bool is true or false.
func Bool(to *bool) *Entry {
	return &Entry{expected: "true or false", kind: wire.Bool, take: func(in *wire.Reader) bool {
		v, err := in.Bool()
		*to = v
		return err == nil
	}}
}

// Map is a map, as it stands in the body.
func Map(to *[]byte, expected string) *Entry {
	return &Entry{expected: expected, kind: wire.Map, take: func(in *wire.Reader) bool {
		v, err := in.Raw()
		*to = v
		return err == nil
	}}
}

// OptionalBool leaves to nil if the key is not given.
func OptionalBool(to **bool) *Entry {
	return &Entry{expected: "true or false", kind: wire.Bool, take: func(in *wire.Reader) bool {
		v, err := in.Bool()
		*to = &v
		return err == nil
	}}
}

// Needed refuses a body without the entry.
func (e *Entry) Needed() *Entry {
	e.required = true
	return e
}

// SessionID is the id of a session, which must be there.
func SessionID(to *string) *Entry { return Text(to, SessionShape, jobs.ValidSession).Needed() }

// ReadBody reads a body whose keys are those of the table. nil stands for a key that was not given.
func ReadBody(r Request, shape string, entries map[string]*Entry) *jobs.Error {
	in, n, bad := OpenBody(r, shape)
	if bad != nil {
		return bad
	}
	for range n {
		key, _ := in.Str()
		e, known := entries[key]
		switch {
		case known && !e.required && in.Nil():
		case !known || in.Kind() != e.kind:
			expected := map[string]string{}
			for name, e := range entries {
				expected[name] = e.expected
			}
			return WrongEntry(key, expected)
		case !e.take(in):
			return jobs.Refused(jobs.CodeBadRequest, key, e.expected, "%s is not allowed", key)
		default:
			e.given = true
		}
	}
	for key, e := range entries {
		if e.required && !e.given {
			return jobs.Refused(jobs.CodeBadRequest, key, e.expected, "%s is missing", key)
		}
	}
	return nil
}

// OpenBody checks the body of an endpoint that runs no job and returns a reader of its n entries. No body at all is an empty map.
func OpenBody(r Request, shape string) (in *wire.Reader, n int, bad *jobs.Error) {
	kind, bad := jobs.ContentType(r.Headers().Get(jobs.HeaderContentType))
	if bad != nil {
		return nil, 0, bad
	}
	body := r.Data()
	if len(body) == 0 {
		return wire.NewReader(wire.AppendMap(nil, 0)), 0, nil
	}
	var err error
	if kind == jobs.JSON {
		body, err = wire.FromJSON(body, wire.Request)
	} else {
		body, err = wire.Canonical(body, wire.Request)
	}
	if err != nil {
		return nil, 0, jobs.Unreadable(err)
	}
	in = wire.NewReader(body)
	if n, err = in.Map(); err != nil {
		return nil, 0, jobs.Refused(jobs.CodeBadRequest, "", shape, "the body is not a map")
	}
	return in, n, nil
}

// WrongEntry refuses a key that is unknown, or one whose value is of the wrong type.
func WrongEntry(key string, known map[string]string) *jobs.Error {
	if expected, ok := known[key]; ok {
		return jobs.Refused(jobs.CodeBadRequest, key, expected, "%s is of the wrong type", key)
	}
	expected := "an empty map"
	if len(known) > 0 {
		expected = strings.Join(slices.Sorted(maps.Keys(known)), ", ")
	}
	return jobs.Refused(jobs.CodeBadRequest, jobs.Clip(key), expected, "unknown key in the body")
}
