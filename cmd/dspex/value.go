package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/dspex/dspex"
)

const argsHelp = `Arguments are key=value. A value that is a JSON number, boolean, list or map is taken as one, everything else is
text: n=3, deep=true, tags=["a","b"], question="What is it?". key:=JSON is always JSON: id:="007" is the text 007, x:=null
is null. --json '{...}' gives more arguments as one map; --json @FILE and --json - read it from a file or standard input.`

// parseArgs reads the arguments of a command. A name that is given twice is an error: which one counted would be a guess.
func (a *app) parseArgs(words []string, body string) (dspex.Args, error) {
	args := dspex.Args{}
	if body != "" {
		text, err := a.readText(body)
		if err != nil {
			return nil, err
		}
		if err := decodeJSON(text, &args); err != nil || args == nil {
			return nil, usage("--json is not a JSON map%s", because(err))
		}
	}
	for _, w := range words {
		name, value, err := parseArg(w)
		if err != nil {
			return nil, err
		}
		if _, twice := args[name]; twice {
			return nil, usage("the argument %q is given twice", name)
		}
		args[name] = value
	}
	return args, nil
}

func because(err error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Error()
}

func parseArg(w string) (name string, value any, err error) {
	name, text, ok := strings.Cut(w, "=")
	literal := strings.HasSuffix(name, ":")
	name = strings.TrimSuffix(name, ":")
	if !ok || name == "" {
		return "", nil, usage("%q is no argument: expected key=value or key:=JSON", w)
	}
	err = decodeJSON([]byte(text), &value)
	if literal {
		if err != nil {
			return "", nil, usage("the value of %s:= is not JSON: %v", name, err)
		}
		return name, value, nil
	}
	switch value.(type) {
	case json.Number, bool, []any, map[string]any:
		if err == nil {
			return name, value, nil
		}
	}
	return name, text, nil
}

// decodeJSON reads exactly one value and keeps numbers as they are written.
func decodeJSON(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("there is more after the value")
	}
	return nil
}

// maxInput bounds what is read from a file or standard input; a broker takes less.
const maxInput = 64 << 20

func (a *app) readText(body string) ([]byte, error) {
	in := a.in
	switch {
	case body == "-":
	case strings.HasPrefix(body, "@"):
		f, err := os.Open(body[1:])
		if err != nil {
			return nil, usage("--json: %v", err)
		}
		defer f.Close()
		in = f
	default:
		return []byte(body), nil
	}
	text, err := io.ReadAll(io.LimitReader(in, maxInput))
	if err != nil {
		return nil, fmt.Errorf("reading the arguments: %w", err)
	}
	return text, nil
}
