package echolm

import (
	"strings"
)

const (
	noteMark   = "        # note: the value you produce "
	schemaNote = "must adhere to the JSON schema: "
	enumNote   = "must be one of: "
	outputsAre = "Your output fields are:\n"
)

// notes are the remarks of a system message on the values of its fields, by field; read once and only if a type in the
// request is not enough.
type notes map[string]string

// readNotes finds the lines "{name}        # note: the value you produce ..."; in a JSON prompt they are the values of a
// JSON object.
func readNotes(f form, system string) notes {
	out := notes{}
	if f == jsonForm {
		_, block, ok := strings.Cut(system, "Outputs will be a JSON object with the following fields.\n\n")
		if !ok {
			return out
		}
		p := parser{s: block, nodes: maxNodes}
		n, err := p.value(0)
		if err != nil {
			return out
		}
		for i, key := range n.keys {
			out.add(key, n.items[i].text)
		}
		return out
	}
	for line := range strings.SplitSeq(system, "\n") {
		if strings.HasPrefix(line, "{") {
			if name, _, ok := strings.Cut(line[1:], "}"); ok {
				out.add(name, line)
			}
		}
	}
	return out
}

func (n notes) add(name, line string) {
	if note, ok := strings.CutPrefix(line, "{"+name+"}"+noteMark); ok {
		n[name] = note
	}
}

// schema returns the schema in a note: a JSON schema, or the choices of an enumeration.
func (n notes) schema(name string) (node, bool) {
	note := n[name]
	if rest, ok := strings.CutPrefix(note, schemaNote); ok {
		schema, err := parseJSON(rest)
		return schema, err == nil
	}
	if rest, ok := strings.CutPrefix(note, enumNote); ok {
		return enumeration(strings.Split(rest, "; ")), true
	}
	return node{}, false
}

// enumeration makes a schema of the values that a note lists. If all look like numbers they are taken for numbers.
func enumeration(values []string) node {
	items := make([]node, 0, len(values))
	for _, v := range values {
		n, err := parseJSON(v)
		if err != nil || n.kind != number {
			items = items[:0]
			break
		}
		items = append(items, n)
	}
	if len(items) == 0 {
		for _, v := range values {
			items = append(items, str(v))
		}
	}
	return obj("enum", node{kind: list, items: items})
}

// readTypes sets the types of an XML prompt's fields: the request has the names only, the system message lists
// "1. `name` (TYPE): description" under a heading.
func readTypes(fields []field, system string) {
	_, lines, ok := strings.Cut(system, outputsAre)
	if !ok {
		return
	}
	left := fields
	for line := range strings.SplitSeq(lines, "\n") {
		if len(left) == 0 {
			return
		}
		_, rest, ok := strings.Cut(line, ". `")
		rest, found := strings.CutPrefix(rest, left[0].name+"` (")
		if !ok || !found {
			continue
		}
		f := &left[0]
		left = left[1:]
		schema, after, ok := parseType(rest)
		switch {
		case strings.HasPrefix(rest, "ToolCalls)"):
			f.toolCalls = true
		case ok && strings.HasPrefix(after, ")"):
			f.schema = schema
		default:
			f.schema = obj(classKey, str(""))
		}
	}
}

// readOutlines keeps the nested elements that an XML prompt shows for a field: "Use this nested XML structure:
// <p><name>...</name></p> <q>...</q>".
func readOutlines(fields []field, wanted string) {
	_, rest, ok := strings.Cut(wanted, " Use this nested XML structure: ")
	if !ok {
		return
	}
	p := outlineParser{s: rest, nodes: 10_000}
	for i := range fields {
		if strings.HasPrefix(p.s, "<"+fields[i].name+">") {
			if fields[i].outline, ok = p.element(0); !ok {
				return
			}
			p.s = strings.TrimPrefix(p.s, " ")
		}
	}
}

type outlineParser struct {
	s     string
	nodes int
}

// element reads one element from the start of p.s.
func (p *outlineParser) element(depth int) (outline, bool) {
	rest, ok := strings.CutPrefix(p.s, "<")
	name, rest, found := strings.Cut(rest, ">")
	if p.nodes--; !ok || !found || depth > 32 || p.nodes < 0 || len(name) > 256 {
		return outline{}, false
	}
	e := outline{name: name}
	p.s = strings.TrimPrefix(rest, "...")
	for !strings.HasPrefix(p.s, "</") {
		child, ok := p.element(depth + 1)
		if !ok {
			return outline{}, false
		}
		e.children = append(e.children, child)
	}
	p.s, ok = strings.CutPrefix(p.s, "</"+name+">")
	return e, ok
}
