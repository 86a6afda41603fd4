package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/wire"
)

// ArgsHelp is the help text about arguments.
const ArgsHelp = `Arguments are key=value. A value that is a JSON number, boolean, list or map is taken as one, everything else is
text: n=3, deep=true, tags=["a","b"], question="What is it?". key:=JSON is always JSON: id:="007" is the text 007, x:=null
is null. --json '{...}' gives more arguments as one map; --json @FILE and --json - read it from a file or standard input.`

// ParseArgs reads the arguments of a command. A name that is given twice is an error: which one counted would be a guess.
func (a *App) ParseArgs(words []string, body string) (dspex.Args, error) {
	args := dspex.Args{}
	if body != "" {
		text, err := a.readText(body)
		if err != nil {
			return nil, err
		}
		var value any
		if err := ReadJSON(text, &value); err != nil {
			return nil, Usage("--json: %v", err)
		}
		given, isMap := value.(map[string]any)
		if !isMap {
			return nil, Usage(`--json is not a JSON map such as {"question": "What is it?"}`)
		}
		args = given
	}
	for _, w := range words {
		name, value, err := parseArg(w)
		if err != nil {
			return nil, err
		}
		if _, twice := args[name]; twice {
			return nil, Usage("the argument %q is given twice", name)
		}
		args[name] = value
	}
	return args, nil
}

func parseArg(w string) (name string, value any, err error) {
	name, text, ok := strings.Cut(w, "=")
	literal := strings.HasSuffix(name, ":")
	name = strings.TrimSuffix(name, ":")
	if !ok || name == "" {
		return "", nil, Usage("an argument must be key=value or key:=JSON, got %q", w)
	}
	if !literal && !looksLikeJSON(text) {
		return name, text, nil
	}
	if err := ReadJSON([]byte(text), &value); err != nil {
		return "", nil, Usage("the value of %s: %v", name, err)
	}
	return name, value, nil
}

// looksLikeJSON reports whether text is a JSON number, boolean, list or map.
func looksLikeJSON(text string) bool {
	var value any
	if DecodeJSON([]byte(text), &value) != nil {
		return false
	}
	switch value.(type) {
	case json.Number, bool, []any, map[string]any:
		return true
	}
	return false
}

// ReadJSON reads a user's input as strictly as a request is read: encoding/json would keep the last of two equal keys
// and repair what is not UTF-8.
func ReadJSON(text []byte, v any) error {
	_, err := wire.FromJSON(text, wire.Request)
	if wrong, ok := errors.AsType[*wire.Error](err); ok {
		where := ""
		if wrong.Path != "" {
			where = " at " + wrong.Path
		}
		return fmt.Errorf("%s%s: expected %s", strings.ReplaceAll(wrong.Problem, "_", " "), where, wrong.Expected)
	}
	return DecodeJSON(text, v)
}

// DecodeJSON reads exactly one value and keeps numbers as they are written.
func DecodeJSON(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("there must be only one value, got more text after it")
	}
	return nil
}

// maxInput bounds what is read from a file or standard input; a broker takes less.
const maxInput = 64 << 20

func (a *App) readText(body string) ([]byte, error) {
	in := a.In
	switch {
	case body == "-":
	case strings.HasPrefix(body, "@"):
		f, err := os.Open(body[1:])
		if err != nil {
			return nil, Usage("--json: %v", err)
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
