package echolm

import (
	"encoding/json"
	"strings"
)

// answer is the model's answer to one conversation.
type answer struct {
	content  string
	call     string // name of a native tool call, "" if there is none
	callArgs string // its arguments, JSON
	turn     int
}

// reply answers a conversation. It is a pure function: no clock, no chance, no state.
func reply(c *conversation) (answer, error) {
	t, err := newTask(c)
	if err != nil {
		return answer{}, err
	}
	g := newGenerator(&t)
	a := answer{turn: t.turn}
	if t.native && t.call != nil {
		a.call, a.callArgs = t.call.name, string(g.arguments(nil, t.call))
	}
	switch {
	case t.form == plainForm && c.jsonObject:
		a.content = string(appendQuoted([]byte(`{"echo": `), g.text(-1))) + "}"
	case t.form == plainForm && c.schema != nil:
		// A schema without properties of its own: a reference, a list, a plain type.
		g.root = c.schema
		a.content = string(g.value(nil, c.schema, 0))
	case t.form == plainForm:
		a.content = g.text(-1)
	default:
		a.content = t.write(g)
	}
	return a, nil
}

// write renders all fields in the form that the prompt requests.
func (t *task) write(g *generator) string {
	var dst []byte
	if t.form == jsonForm {
		dst = append(dst, '{')
	}
	for i := range t.fields {
		f := &t.fields[i]
		g.field(f)
		switch t.form {
		case chatForm:
			dst = append(append(append(dst, headerStart...), f.name...), headerEnd+"\n"...)
			dst = append(dst, t.bare(g, f)...)
			dst = append(dst, "\n\n"...)
		case jsonForm:
			if i > 0 {
				dst = append(dst, ", "...)
			}
			dst = append(appendQuoted(dst, f.name), ": "...)
			dst = append(dst, t.member(g, f)...)
		case xmlForm:
			dst = append(append(append(dst, '<'), f.name...), '>')
			dst = append(dst, t.element(g, f)...)
			dst = append(append(append(dst, "</"...), f.name...), ">\n"...)
		}
		if len(dst) > maxAnswer {
			g.input, g.words, g.budget = "", nil, 0
		}
	}
	switch t.form {
	case chatForm:
		dst = append(dst, "[[ ## completed ## ]]\n"...)
	case jsonForm:
		dst = append(dst, '}')
	}
	return string(dst)
}

// special returns the JSON of the fields of tool runs, nil for any other field.
func (t *task) special(g *generator, f *field) []byte {
	switch {
	case f.toolCalls:
		return g.toolCalls(nil, t.call)
	case t.call == nil || t.native:
		return nil
	case f.name == "next_tool_name":
		return appendQuoted(nil, t.call.name)
	case f.name == "next_tool_args":
		return g.arguments(nil, t.call)
	}
	return nil
}

// bare renders a value as the Chat and XML adapters read it: texts and choices as they are, everything else as JSON, for
// DSPy repairs what is not ("echo: {x}" for a list becomes ["x"]).
func (t *task) bare(g *generator, f *field) string {
	if v, ok := t.given[f.name]; ok {
		if s, isText := v.(string); isText {
			return s
		}
		return string(spelled(v))
	}
	json := t.special(g, f)
	if json == nil {
		if isText(&f.schema) {
			return g.string(g.follow(&f.schema, 0), -1)
		}
		json = g.value(nil, &f.schema, 0)
	}
	if !takesBare(f) {
		return string(json)
	}
	n, err := parseJSON(string(json))
	switch {
	case err != nil || n.kind == list || n.kind == object:
		return string(json)
	case n.kind == boolean:
		return map[bool]string{true: "True", false: "False"}[n.truth]
	case n.kind == text:
		return quoteChoice(n.text)
	}
	return string(json)
}

// spelled is a given output as JSON; null for what has no JSON.
func spelled(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		return []byte("null")
	}
	return b
}

// isText reports whether DSPy takes a field's text as it is: str, and every union of str with None, whatever else is in
// it. A class without a known schema is hoped to be one that is read from text.
func isText(schema *node) bool {
	if schema.str("type") == "string" || schema.get(classKey) != nil {
		return true
	}
	var texts, nulls bool
	if arms := schema.get("anyOf"); arms != nil {
		for i := range arms.items {
			texts = texts || arms.items[i].str("type") == "string" && arms.items[i].get("format") == nil
			nulls = nulls || arms.items[i].str("type") == "null"
		}
	}
	return texts && nulls
}

// takesBare reports whether a field is a choice or a bool: these are read by their spelling.
func takesBare(f *field) bool {
	return f.schema.get("enum") != nil || f.schema.get("const") != nil || f.schema.str("type") == "boolean"
}

// quoteChoice puts a text in quotes where DSPy would take something off it: it strips space, one pair of quotes and
// "Literal[...]".
func quoteChoice(s string) string {
	quoted := len(s) > 1 && s[0] == s[len(s)-1] && (s[0] == '"' || s[0] == '\'')
	if s == "" || quoted || strings.TrimSpace(s) != s || strings.HasPrefix(s, "Literal[") || strings.HasPrefix(s, "str[") {
		return `"` + s + `"`
	}
	return s
}

// member renders a value for the JSON adapter. It reads a text once more as JSON unless the type is str, a union of str
// with None or a choice, so other texts are quoted twice.
func (t *task) member(g *generator, f *field) []byte {
	if v, ok := t.given[f.name]; ok {
		return spelled(v)
	}
	json := t.special(g, f)
	if json == nil {
		if isText(&f.schema) {
			return appendQuoted(nil, g.string(g.follow(&f.schema, 0), -1))
		}
		json = g.value(nil, &f.schema, 0)
	}
	if json[0] == '"' && !takesBare(f) && !isPlainEcho(json) {
		return appendQuoted(nil, string(json))
	}
	return json
}

// isPlainEcho reports whether a JSON text is an echo in which DSPy finds no JSON to repair.
func isPlainEcho(json []byte) bool {
	inner := string(json[1 : len(json)-1])
	return strings.HasPrefix(inner, "echo") && !strings.ContainsAny(inner, "{}[]()\"'`\\“”")
}

var xmlEscaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// element renders a value for the XML adapter: nested elements where only the prompt's outline has the shape, else as
// text, which may be JSON.
func (t *task) element(g *generator, f *field) string {
	if _, given := t.given[f.name]; !given && !f.toolCalls && hasClass(&f.schema) && len(f.outline.children) > 0 {
		var b strings.Builder
		for _, child := range f.outline.children {
			child.write(&b)
		}
		return b.String()
	}
	if _, given := t.given[f.name]; !given && f.schema.str("type") == "object" && hasClass(&f.schema) {
		return "{}"
	}
	return xmlEscaper.Replace(t.bare(g, f))
}

// write renders an outline with "1" in its leaves: their types are unknown, and "1" is a valid text, number and bool.
func (o outline) write(b *strings.Builder) {
	b.WriteString("<" + o.name + ">")
	if len(o.children) == 0 {
		b.WriteString("1")
	}
	for _, child := range o.children {
		child.write(b)
	}
	b.WriteString("</" + o.name + ">")
}
