package echolm

import "strings"

// A type in a DSPy prompt is Python text: `list[dict[str, Union[int, NoneType]]]`. It is read into the JSON schema that
// has the same content, so that one generator serves both. A class's name is no evidence about its fields: it becomes {"class": NAME},
// and the schema must be found elsewhere in the prompt.

// classKey marks a name that is not in the grammar; JSON schema has no such keyword.
const classKey = "class"

var simpleTypes = map[string]node{
	"str":      obj("type", str("string")),
	"int":      obj("type", str("integer")),
	"float":    obj("type", str("number")),
	"bool":     obj("type", str("boolean")),
	"NoneType": obj("type", str("null")),
	"None":     obj("type", str("null")),
	"list":     obj("type", str("array")),
	"dict":     obj("type", str("object")),
	"Any":      obj(),
}

var stringSchema = simpleTypes["str"]

// typeParser reads one type from the start of s.
type typeParser struct {
	s     string
	nodes int
}

// parseType reads the type that s starts with and returns its schema and what follows. It fails on anything that is not
// shaped like a type, on more than 64 levels and on more than 10,000 names.
func parseType(s string) (schema node, rest string, ok bool) {
	p := typeParser{s: s, nodes: 10_000}
	schema, ok = p.union(0)
	return schema, p.s, ok
}

// union reads one type, or several with '|' between them.
func (p *typeParser) union(depth int) (node, bool) {
	first, ok := p.single(depth)
	arms := []node{first}
	for ok && strings.HasPrefix(p.s, " | ") {
		p.s = p.s[3:]
		var arm node
		arm, ok = p.single(depth)
		arms = append(arms, arm)
	}
	if len(arms) == 1 {
		return first, ok
	}
	return obj("anyOf", node{kind: list, items: arms}), ok
}

func (p *typeParser) single(depth int) (node, bool) {
	name := p.name()
	if p.nodes--; name == "" || depth > 64 || p.nodes < 0 {
		return node{}, false
	}
	name = strings.TrimPrefix(name, "typing.")
	if !strings.HasPrefix(p.s, "[") {
		if schema, known := simpleTypes[name]; known {
			return schema, true
		}
		return obj(classKey, str(name)), true
	}
	p.s = p.s[1:]
	if name == "Literal" {
		return p.literal()
	}
	args, ok := p.args(depth + 1)
	if !ok {
		return node{}, false
	}
	return generic(name, args), true
}

func generic(name string, args []node) node {
	switch {
	case (name == "list" || name == "List") && len(args) == 1:
		return obj("type", str("array"), "items", args[0])
	case (name == "dict" || name == "Dict") && len(args) == 2:
		return obj("type", str("object"), "propertyNames", args[0], "additionalProperties", args[1])
	case name == "Union":
		return obj("anyOf", node{kind: list, items: args})
	case name == "Optional" && len(args) == 1:
		return obj("anyOf", node{kind: list, items: []node{args[0], simpleTypes["NoneType"]}})
	}
	return obj(classKey, str(name))
}

func (p *typeParser) name() string {
	end := 0
	for end < len(p.s) && (p.s[end] == '_' || p.s[end] == '.' || p.s[end] >= 0x80 ||
		p.s[end]|0x20 >= 'a' && p.s[end]|0x20 <= 'z' || p.s[end] >= '0' && p.s[end] <= '9') {
		end++
	}
	name := p.s[:end]
	p.s = p.s[end:]
	return name
}

// args reads types up to the closing bracket.
func (p *typeParser) args(depth int) ([]node, bool) {
	var args []node
	for {
		arg, ok := p.union(depth)
		if !ok {
			return nil, false
		}
		args = append(args, arg)
		switch {
		case strings.HasPrefix(p.s, ", "):
			p.s = p.s[2:]
		case strings.HasPrefix(p.s, "]"):
			p.s = p.s[1:]
			return args, true
		default:
			return nil, false
		}
	}
}

// literal reads the values of a Literal up to the closing bracket. A value that is neither text, number, bool nor None
// (an enum's member, bytes) cannot be derived from its text and is left out.
func (p *typeParser) literal() (node, bool) {
	values := node{kind: list}
	for {
		value, known, ok := p.choice()
		if !ok {
			return node{}, false
		}
		if known {
			values.items = append(values.items, value)
		}
		switch {
		case strings.HasPrefix(p.s, ", "):
			p.s = p.s[2:]
		case strings.HasPrefix(p.s, "]"):
			p.s = p.s[1:]
			return obj("enum", values), true
		default:
			return node{}, false
		}
	}
}

func (p *typeParser) choice() (value node, known, ok bool) {
	if p.nodes--; p.s == "" || p.nodes < 0 {
		return node{}, false, false
	}
	if p.s[0] == '\'' || p.s[0] == '"' {
		s, ok := p.choiceText()
		return str(s), true, ok
	}
	end := strings.IndexAny(p.s, ",]")
	if end < 1 {
		return node{}, false, false
	}
	word := p.s[:end]
	p.s = p.s[end:]
	if v, err := parsePython(word); err == nil && v.kind != list {
		return v, true, true
	}
	return node{}, false, true
}

// choiceText reads a quoted value. DSPy takes the quotes that the value does not contain and escapes nothing, except the single quotes of
// a value with both kinds. So a backslash means something only in front of a ' and after a ".
func (p *typeParser) choiceText() (string, bool) {
	quote := p.s[0]
	both := false
	for i := 1; i < len(p.s); i++ {
		switch c := p.s[i]; {
		case c == quote && quote == '\'' && both && p.s[i-1] == '\\':
		case c == quote && i+1 < len(p.s) && (p.s[i+1] == ']' || strings.HasPrefix(p.s[i+1:], ", ")):
			value := p.s[1:i]
			p.s = p.s[i+1:]
			if quote == '\'' && strings.Contains(value, `"`) {
				value = strings.ReplaceAll(value, `\'`, `'`)
			}
			return value, true
		case c == '"':
			both = true
		}
	}
	return "", false
}

// hasClass reports whether a schema read from a type leaves a class open.
func hasClass(n *node) bool {
	if n.get(classKey) != nil {
		return true
	}
	for i := range n.items {
		if hasClass(&n.items[i]) {
			return true
		}
	}
	return false
}
