package mock

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

const mark = "[mock]"

type field struct{ name, kind, description string }

// signature is what a program takes and gives. Types are read as far as a mock needs them.
type signature struct {
	name, description string
	inputs, outputs   []field
}

var nameShape = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,63}$`)

func badSignature(path, expected string) *failure {
	return &failure{category: "python", code: "bad_signature", message: "the signature cannot be read", path: path, expected: expected}
}

// parseSignature reads both forms of contract/commands.md.
func parseSignature(v any, path string) (sig signature, e *failure) {
	switch v := v.(type) {
	case string:
		in, out, ok := strings.Cut(v, "->")
		if !ok || strings.Contains(out, "->") {
			return sig, badSignature(path, "inputs -> outputs")
		}
		sig = signature{name: "Signature", inputs: textFields(in), outputs: textFields(out)}
	case map[string]any:
		sig.name, _ = v["name"].(string)
		sig.description, _ = v["description"].(string)
		sig.inputs, sig.outputs = mapFields(v["inputs"]), mapFields(v["outputs"])
	default:
		return sig, badSignature(path, "text or a map")
	}
	if len(sig.inputs) == 0 || len(sig.outputs) == 0 {
		return sig, badSignature(path, "at least one input and one output")
	}
	for _, f := range slices.Concat(sig.inputs, sig.outputs) {
		if !nameShape.MatchString(f.name) {
			return sig, badSignature(path, "names of a letter, then letters, digits and _")
		}
	}
	return sig, nil
}

func textFields(text string) (fields []field) {
	for _, part := range split(text) {
		name, kind, typed := strings.Cut(part, ":")
		if !typed {
			kind = "string"
		}
		fields = append(fields, field{name: strings.TrimSpace(name), kind: strings.TrimSpace(kind)})
	}
	return fields
}

// split parts a text at the commas that are in no brackets or quotes.
func split(text string) (parts []string) {
	depth, from := 0, 0
	var quote rune
	for i, r := range text {
		switch {
		case quote != 0:
			if r == quote {
				quote = 0
			}
		case r == '\'' || r == '"':
			quote = r
		case r == '[':
			depth++
		case r == ']':
			depth--
		case r == ',' && depth == 0:
			parts, from = append(parts, text[from:i]), i+1
		}
	}
	return append(parts, text[from:])
}

func mapFields(v any) (fields []field) {
	list, _ := v.([]any)
	for _, item := range list {
		m, _ := item.(map[string]any)
		f := field{kind: "string"}
		f.name, _ = m["name"].(string)
		f.description, _ = m["description"].(string)
		if kind, _ := m["type"].(string); kind != "" {
			f.kind = kind
		}
		fields = append(fields, f)
	}
	return fields
}

func (s signature) toMap() map[string]any {
	side := func(fields []field) []any {
		list := []any{}
		for _, f := range fields {
			list = append(list, map[string]any{"name": f.name, "type": plain(f.kind), "description": f.description})
		}
		return list
	}
	return map[string]any{"name": s.name, "description": s.description, "inputs": side(s.inputs), "outputs": side(s.outputs)}
}

// plain is the name under which a type is shown.
func plain(kind string) string {
	for long, short := range map[string]string{"string": "str", "integer": "int", "number": "float", "boolean": "bool"} {
		if kind == long {
			return short
		}
	}
	return kind
}

// inferred is the signature of a predict that has none.
func inferred(args map[string]any, outputs any) signature {
	var sig signature
	for _, name := range slices.Sorted(maps.Keys(args)) {
		sig.inputs = append(sig.inputs, field{name: name, kind: "any"})
	}
	list, _ := outputs.([]any)
	for _, v := range list {
		if name, ok := v.(string); ok {
			sig.outputs = append(sig.outputs, field{name: name, kind: "str"})
		}
	}
	if len(sig.outputs) == 0 {
		sig.outputs = []field{{name: "answer", kind: "str"}}
	}
	return sig
}

// check refuses inputs that are missing, unknown or, where that is plain, of another type.
func (s signature) check(inputs map[string]any, path string) *failure {
	var wrong, expected []string
	known := map[string]bool{}
	for _, f := range s.inputs {
		known[f.name] = true
		expected = append(expected, f.name+": "+plain(f.kind))
		v, there := inputs[f.name]
		switch {
		case there && !fits(plain(f.kind), v):
			wrong = append(wrong, "input "+f.name+" must be "+plain(f.kind))
		case !there && !optional(f.kind):
			wrong = append(wrong, "missing input '"+f.name+"'")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(inputs)) {
		if !known[name] {
			wrong = append(wrong, "unknown input '"+name+"'")
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return badInput(path+".inputs", strings.Join(expected, ", "), "%s", strings.Join(wrong, "; "))
}

func optional(kind string) bool {
	return strings.HasPrefix(kind, "Optional[") || strings.Contains(kind, "None") || strings.HasSuffix(strings.ToLower(kind), "history")
}

func fits(kind string, v any) bool {
	ok := true
	switch kind {
	case "str":
		_, ok = v.(string)
	case "bool":
		_, ok = v.(bool)
	case "int":
		_, ok = v.(int64)
	case "float":
		_, whole := v.(int64)
		_, ok = v.(float64)
		ok = ok || whole
	}
	return ok
}

var literal = regexp.MustCompile(`^Literal\[\s*(?:'([^']*)'|"([^"]*)"|([^,\]]*))`)

// valueOf is a value of the type, made from the text.
func valueOf(kind, text string) any {
	if m := literal.FindStringSubmatch(kind); m != nil {
		return m[1] + m[2] + m[3]
	}
	inner, _ := strings.CutSuffix(kind[strings.IndexByte(kind, '[')+1:], "]")
	switch k := plain(kind); {
	case k == "int":
		return len(text)
	case k == "float":
		return float64(len(text)) / 2
	case k == "bool":
		return text != ""
	case strings.HasPrefix(k, "Optional["):
		return valueOf(inner, text)
	case k == "list":
		return []any{mark + " " + text}
	case strings.HasPrefix(k, "list["):
		return []any{valueOf(inner, text)}
	case strings.HasPrefix(k, "dict["):
		parts := split(inner)
		return map[string]any{"mock": valueOf(strings.TrimSpace(parts[len(parts)-1]), text)}
	case k == "dict":
		return map[string]any{"mock": text}
	}
	return mark + " " + text
}
