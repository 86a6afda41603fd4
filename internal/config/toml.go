package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

func parseTOML(path string, text []byte) ([]entry, error) {
	var top map[string]any
	if err := toml.Unmarshal(text, &top); err != nil {
		at := Place{1, 1}
		if bad, ok := errors.AsType[*toml.DecodeError](err); ok {
			at.Line, at.Column = bad.Position()
		}
		return nil, Problem{path, at, "not TOML: " + strings.TrimPrefix(err.Error(), "toml: ")}
	}
	places := tomlPlaces(text)
	t := tomlReader{path: path, places: places}
	entries := t.entries("", top)
	return entries, errors.Join(t.wrong...)
}

// tomlPlaces are where the keys stand, by their paths.
func tomlPlaces(text []byte) map[string]Place {
	places := map[string]Place{}
	var p unstable.Parser
	p.Reset(text)
	table := ""
	for p.NextExpression() {
		e := p.Expression()
		path := table
		if e.Kind == unstable.Table || e.Kind == unstable.ArrayTable {
			path = ""
		}
		if e.Kind == unstable.Comment {
			continue
		}
		for keys := e.Key(); keys.Next(); {
			n := keys.Node()
			path = join(path, string(n.Data))
			start := p.Shape(n.Raw).Start
			if _, there := places[path]; !there {
				places[path] = Place{start.Line, start.Column}
			}
		}
		if e.Kind == unstable.Table || e.Kind == unstable.ArrayTable {
			table = path
		}
	}
	return places
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

type tomlReader struct {
	path   string
	places map[string]Place
	wrong  []error
}

func (t *tomlReader) entries(path string, m map[string]any) (out []entry) {
	for _, key := range sortedKeys(m) {
		below := join(path, key)
		at := t.places[below]
		out = append(out, entry{key, at, t.value(below, at, m[key])})
	}
	slices.SortStableFunc(out, func(a, b entry) int {
		if a.at.Line != b.at.Line {
			return a.at.Line - b.at.Line
		}
		return a.at.Column - b.at.Column
	})
	return out
}

func (t *tomlReader) value(path string, at Place, v any) value {
	out := value{at: at}
	switch v := v.(type) {
	case string:
		out.kind, out.text = isText, v
	case bool:
		out.kind, out.text = isBool, strconv.FormatBool(v)
	case int64:
		out.kind, out.text = isNumber, strconv.FormatInt(v, 10)
	case float64:
		out.kind, out.text = isNumber, strconv.FormatFloat(v, 'g', -1, 64)
	case []any:
		out.kind = isList
		for i, one := range v {
			out.list = append(out.list, t.value(fmt.Sprintf("%s.%d", path, i), at, one))
		}
	case map[string]any:
		out.kind, out.entries = isMap, t.entries(path, v)
	default:
		t.wrong = append(t.wrong, Problem{t.path, at, fmt.Sprintf("%s must not be a date or a time", path)})
	}
	return out
}
