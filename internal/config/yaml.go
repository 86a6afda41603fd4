package config

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// yamlLine finds the line in the errors of the YAML library.
var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

func parseYAML(path string, text []byte) ([]entry, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		at, what := Place{1, 1}, err.Error()
		if m := yamlLine.FindStringSubmatch(what); m != nil {
			what = m[2]
			if n, bad := strconv.Atoi(m[1]); bad == nil {
				at.Line = n
			}
		}
		return nil, Problem{path, at, "not YAML: " + what}
	}
	if doc.Kind == 0 { // nothing but comments
		return nil, nil
	}
	y := yamlReader{path: path}
	top := y.value(doc.Content[0])
	if top.kind != isMap && top.kind != isNull {
		y.no(doc.Content[0], "the file must be a map of keys, got %s", top.describe())
	}
	return top.entries, errors.Join(y.wrong...)
}

type yamlReader struct {
	path  string
	wrong []error
}

func (y *yamlReader) no(n *yaml.Node, format string, args ...any) {
	y.wrong = append(y.wrong, Problem{y.path, place(n), fmt.Sprintf(format, args...)})
}

func place(n *yaml.Node) Place { return Place{n.Line, n.Column} }

func (y *yamlReader) value(n *yaml.Node) value {
	v := value{at: place(n)}
	switch n.Kind {
	case yaml.AliasNode:
		y.no(n, "aliases (*%s) are not supported: write the value out", n.Value)
	case yaml.SequenceNode:
		v.kind = isList
		for _, one := range n.Content {
			v.list = append(v.list, y.value(one))
		}
	case yaml.MappingNode:
		v.kind = isMap
		seen := map[string]bool{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" {
				y.no(key, "a key must be a text")
				continue
			}
			if seen[key.Value] {
				y.no(key, "%s must be set once, got it twice", key.Value)
				continue
			}
			seen[key.Value] = true
			v.entries = append(v.entries, entry{key.Value, place(key), y.value(n.Content[i+1])})
		}
	default:
		v.text = n.Value
		switch n.ShortTag() {
		case "!!null":
			v.kind = isNull
		case "!!bool":
			v.kind = isBool
			var b bool
			if err := n.Decode(&b); err == nil {
				v.text = strconv.FormatBool(b)
			}
		case "!!int", "!!float":
			v.kind = isNumber
		case "!!str", "!!timestamp":
			v.kind = isText
		default:
			y.no(n, "the tag %s is not supported", n.ShortTag())
		}
	}
	return v
}
