package jobs

import (
	"errors"
	"fmt"

	"github.com/dspex/dspex/internal/wire"
)

// StateSchema is the schema of a session's state that Contents can read (key v of the map).
const StateSchema = 1

// Program is one program in a session's state.
type Program struct {
	ID           string
	Type         string // predict, chain_of_thought or react
	Executions   int64
	Created      string // RFC 3339
	LastExecuted string // "" if it never was
}

// Contents is what the state of a session holds. It is for people who look at sessions: nothing else reads the state, which
// belongs to the workers.
type Contents struct {
	Programs []Program // by id
	Turns    int       // of conversation
	Data     int       // keys that update_session_data wrote
	LM       []byte    // MessagePack: the choice of language model, or nil
}

var errState = errors.New("the session's state has an unknown form")

// ReadState looks into the state that a worker wrote; nil is the empty one.
func ReadState(state []byte) (Contents, error) {
	var c Contents
	if state == nil {
		return c, nil
	}
	if err := wire.Check(state, wire.Pass); err != nil {
		return c, fmt.Errorf("%w: %w", errState, err)
	}
	err := eachEntry(wire.NewReader(state), func(key string, in *wire.Reader) error { return c.read(key, in) })
	if err != nil {
		return Contents{}, fmt.Errorf("%w: %w", errState, err)
	}
	return c, nil
}

func (c *Contents) read(key string, in *wire.Reader) (err error) {
	switch key {
	case "v":
		v, err := in.Int()
		if err == nil && v > StateSchema {
			err = ErrNewer
		}
		return err
	case "programs":
		return eachEntry(in, func(id string, in *wire.Reader) error {
			p := Program{ID: id}
			c.Programs = append(c.Programs, p)
			return eachEntry(in, c.Programs[len(c.Programs)-1].read)
		})
	case "history":
		c.Turns, err = count(in, in.Array, 1)
	case "data":
		c.Data, err = count(in, in.Map, 2)
	case "lm":
		if !in.Nil() {
			c.LM, err = in.Raw()
		}
	default:
		err = in.Skip()
	}
	return err
}

func (p *Program) read(key string, in *wire.Reader) (err error) {
	switch {
	case key == "program_type" && in.Kind() == wire.Str:
		p.Type, err = in.Str()
	case key == "execution_count" && in.Kind() == wire.Int:
		p.Executions, err = in.Int()
	case key == "created_at" && in.Kind() == wire.Str:
		p.Created, err = in.Str()
	case key == "last_executed" && in.Kind() == wire.Str:
		p.LastExecuted, err = in.Str()
	default:
		err = in.Skip()
	}
	return err
}

// eachEntry reads a map; each reads the value of its key.
func eachEntry(in *wire.Reader, each func(key string, in *wire.Reader) error) error {
	n, err := in.Map()
	if err != nil {
		return err
	}
	for range n {
		key, err := in.Str()
		if err == nil {
			err = each(key, in)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// count skips a list or a map, whose elements have this many parts each, and returns how many there are.
func count(in *wire.Reader, head func() (int, error), parts int) (int, error) {
	n, err := head()
	for range n * parts {
		if err == nil {
			err = in.Skip()
		}
	}
	return n, err
}
