package mock

import (
	"maps"
	"time"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

// state is what a session keeps, in the form in which Python workers keep it.
type state struct {
	V         int64              `msgpack:"v"`
	Version   uint64             `msgpack:"version"`
	Programs  map[string]program `msgpack:"programs"`
	LM        map[string]any     `msgpack:"lm"`
	History   []turn             `msgpack:"history"`
	Data      map[string]any     `msgpack:"data"`
	CreatedAt *string            `msgpack:"created_at"`
}

type program struct {
	Signature map[string]any `msgpack:"signature"`
	Type      string         `msgpack:"program_type"`
	CreatedAt string         `msgpack:"created_at"`
	Count     int64          `msgpack:"execution_count"`
	Last      *string        `msgpack:"last_executed"`
}

type turn struct {
	Inputs  map[string]any `msgpack:"inputs"`
	Outputs map[string]any `msgpack:"outputs"`
}

// mostTurns of a conversation are kept, as by Python workers.
const mostTurns = 50

func readState(raw []byte) (*state, *failure) {
	s := &state{V: jobs.StateSchema}
	if raw != nil {
		if err := wire.Decode(raw, s); err != nil {
			return nil, &failure{category: "session", code: "record_unreadable", message: "the session's state cannot be read", hint: "clean the session up (cleanup_session) to start over"}
		}
		if s.V > jobs.StateSchema {
			return nil, &failure{category: "session", code: "record_newer", message: "a newer release wrote the session's state"}
		}
	}
	return s, nil
}

func (s *state) bytes(version uint64) ([]byte, error) {
	s.Version = version
	if s.CreatedAt == nil {
		now := nowText()
		s.CreatedAt = &now
	}
	if s.Programs == nil {
		s.Programs = map[string]program{}
	}
	if s.Data == nil {
		s.Data = map[string]any{}
	}
	if s.History == nil {
		s.History = []turn{}
	}
	return wire.Encode(s)
}

func (s *state) with(id string, p *program) {
	programs := maps.Clone(s.Programs)
	if programs == nil {
		programs = map[string]program{}
	}
	if p == nil {
		delete(programs, id)
	} else {
		programs[id] = *p
	}
	s.Programs = programs
}

func (s *state) remember(inputs, outputs map[string]any) {
	s.History = append(s.History, turn{inputs, outputs})
	if more := len(s.History) - mostTurns; more > 0 {
		s.History = s.History[more:]
	}
}

func nowText() string { return time.Now().UTC().Format("2006-01-02T15:04:05.000Z") }
