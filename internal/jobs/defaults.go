package jobs

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dspex/dspex/internal/wire"
)

// Defaults are an operator's options for jobs that do not set them. The zero value has none beside the contract's.
type Defaults struct {
	Timeout time.Duration     // of one attempt; 0: DefaultTimeout
	options map[string][]byte // command, or AllCommands -> options
}

// AllCommands stands for every command in a file of defaults.
const AllCommands = "*"

var defaultable = []string{"timeout", "max_retries", "backoff", "backoff_cap", "jitter"}

const defaultsShape = `{"*": {"max_retries": 3}, "resize": {"timeout": "10m"}}`

// ParseDefaults reads the JSON of a file, {"<command or *>": {options}}, and reports everything that is wrong.
func ParseDefaults(b []byte) (Defaults, error) {
	canonical, err := wire.FromJSON(b, wire.Request)
	if err != nil {
		return Defaults{}, fmt.Errorf("%s: expected %s", Unreadable(err).Message, defaultsShape)
	}
	in := wire.NewReader(canonical)
	n, err := in.Map()
	if err != nil {
		return Defaults{}, fmt.Errorf("expected %s", defaultsShape)
	}
	d := Defaults{options: map[string][]byte{}}
	var wrong []error
	for range n {
		command, _ := in.Str()
		if command != AllCommands && !validCommand(command) {
			wrong = append(wrong, fmt.Errorf("a key must be the name of a command, or %s for all, got %q", AllCommands, Clip(command)))
		}
		kind := in.Kind()
		raw, err := in.Raw()
		if err != nil || kind != wire.Map {
			wrong = append(wrong, fmt.Errorf("%s must be a map of options", Clip(command)))
			continue
		}
		if err := checkDefaults(raw); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", Clip(command), err))
		}
		d.options[command] = raw
	}
	return d, errors.Join(wrong...)
}

func checkDefaults(options []byte) error {
	in := wire.NewReader(options)
	n, err := in.Map()
	if err != nil {
		return err
	}
	for range n {
		key, _ := in.Str()
		if !slices.Contains(defaultable, key) {
			return fmt.Errorf("%s has no default: expected some of %v", Clip(key), defaultable)
		}
		if e := new(Request).readOption(key, in); e != nil {
			return fmt.Errorf("%s: expected %s", e.Message, e.Expected)
		}
	}
	return nil
}

// Fill sets what the job leaves out: first by its command's defaults, then by those of all.
func (d Defaults) Fill(r *Request) {
	filled := Request{Timeout: DefaultTimeout}
	if d.Timeout > 0 {
		filled.Timeout = d.Timeout
	}
	for _, options := range [][]byte{d.options[AllCommands], d.options[r.Command], r.Options} {
		if options != nil {
			_ = filled.readOptions(wire.NewReader(options)) // each was read before
		}
	}
	r.Timeout, r.Policy = filled.Timeout, filled.Policy
}
