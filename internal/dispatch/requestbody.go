package dispatch

import (
	"fmt"

	"github.com/nats-io/nats.go/micro"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

// entry is one key of a request's body: what it may be, and how its value is taken.
type entry struct {
	expected string
	kind     wire.Kind
	take     func(in *wire.Reader) bool // false: the value is not allowed
	required bool
	given    bool
}

func textEntry(to *string, expected string, allowed func(string) bool) *entry {
	return &entry{expected: expected, kind: wire.Str, take: func(in *wire.Reader) bool {
		v, err := in.Str()
		*to = v
		return err == nil && allowed(v)
	}}
}

func intEntry(to *int64, what string, least, most int64) *entry {
	return &entry{expected: fmt.Sprintf("%s, %d to %d", what, least, most), kind: wire.Int, take: func(in *wire.Reader) bool {
		v, err := in.Int()
		*to = v
		return err == nil && v >= least && v <= most
	}}
}

func boolEntry(to *bool) *entry {
	return &entry{expected: "true or false", kind: wire.Bool, take: func(in *wire.Reader) bool {
		v, err := in.Bool()
		*to = v
		return err == nil
	}}
}

func mapEntry(to *[]byte, expected string) *entry {
	return &entry{expected: expected, kind: wire.Map, take: func(in *wire.Reader) bool {
		v, err := in.Raw()
		*to = v
		return err == nil
	}}
}

func (e *entry) needed() *entry {
	e.required = true
	return e
}

// sessionEntry is the id of a session, which must be there.
func sessionEntry(to *string) *entry { return textEntry(to, sessionShape, jobs.ValidSession).needed() }

// readBody reads a body whose keys are those of the table. nil stands for a key that was not given.
func readBody(r micro.Request, shape string, entries map[string]*entry) *jobs.Error {
	in, n, bad := openBody(r, shape)
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
			return wrongEntry(key, expected)
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

// respondResult answers a request that runs no job.
func respondResult(r micro.Request, result map[string]any) {
	body, err := wire.Encode(map[string]any{"ok": true, "result": result})
	if err != nil {
		refuse(r, jobs.Errorf(jobs.System, jobs.CodeBug, "the answer cannot be encoded: %v", err))
		return
	}
	respond(r, body)
}

// unreadable says that the broker did not give what was asked for.
func unreadable(err error) *jobs.Error {
	return jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the broker did not answer: %v", err).Again()
}
