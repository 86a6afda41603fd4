package echolm

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func generate(tb testing.TB, input, schema string) string {
	n, err := parseJSON(schema)
	if err != nil {
		tb.Fatal(schema, err)
	}
	g := newGenerator(&task{turn: 1, input: input})
	g.root = &n
	return string(g.value(nil, &n, 0))
}

func TestValuesFitTheirSchema(t *testing.T) {
	for schema, want := range map[string]string{
		`{"type": "string"}`:                                   `"echo: one two three"`,
		`{"type": "integer"}`:                                  `3`,
		`{"type": "integer", "minimum": 5.5}`:                  `6`,
		`{"type": "integer", "exclusiveMinimum": 5}`:           `6`,
		`{"type": "integer", "maximum": 1}`:                    `1`,
		`{"type": "integer", "exclusiveMaximum": 1}`:           `0`,
		`{"type": "integer", "minimum": 4, "multipleOf": 5}`:   `5`,
		`{"type": "number", "minimum": 7}`:                     `7`,
		`{"type": "number", "maximum": -7}`:                    `-7`,
		`{"type": "null"}`:                                     `null`,
		`{"const": {"a": [1]}}`:                                `{"a": [1]}`,
		`{"enum": ["x"]}`:                                      `"x"`,
		`{}`:                                                   `"echo: one two three"`,
		`true`:                                                 `"echo: one two three"`,
		`{"type": "string", "maxLength": 8}`:                   `"echo: on"`,
		`{"type": "string", "minLength": 22}`:                  `"echo: one two three..."`,
		`{"type": "string", "format": "date"}`:                 `"2000-01-01"`,
		`{"type": ["null", "integer"]}`:                        `3`,
		`{"type": ["null"]}`:                                   `null`,
		`{"anyOf": [{"type": "null"}, {"type": "integer"}]}`:   `3`,
		`{"anyOf": [{"type": "null"}]}`:                        `null`,
		`{"oneOf": [{"type": "integer"}, {"type": "string"}]}`: `3`,
		`{"allOf": [{"$ref": "#/$defs/N"}], "$defs": {"N": {"type": "integer"}}}`:  `3`,
		`{"$ref": "#/definitions/a~1b", "definitions": {"a/b": {"type": "null"}}}`: `null`,
		`{"$ref": "#/nowhere"}`:                                                `"echo: one two three"`,
		`{"$ref": "http://elsewhere"}`:                                         `"echo: one two three"`,
		`{"$ref": "#"}`:                                                        `"echo: one two three"`,
		`{"type": "array"}`:                                                    `["echo: one", "echo: two", "echo: three"]`,
		`{"items": {"type": "integer"}}`:                                       `[3, 4, 5]`,
		`{"type": "array", "maxItems": 1}`:                                     `["echo: one"]`,
		`{"type": "array", "minItems": 4, "items": {"const": 1}}`:              `[1, 1, 1, 1]`,
		`{"prefixItems": [{"type": "integer"}, {"type": "null"}]}`:             `[3, null]`,
		`{"type": "array", "items": {"type": "array"}}`:                        `[["echo: one", "echo: two"], ["echo: one", "echo: two"], ["echo: one", "echo: two"]]`,
		`{"type": "object"}`:                                                   `{"echo": "echo: one two three"}`,
		`{"type": "object", "additionalProperties": false}`:                    `{}`,
		`{"additionalProperties": {"type": "integer"}}`:                        `{"echo": 3}`,
		`{"additionalProperties": true, "propertyNames": {"type": "integer"}}`: `{"3": "echo: one two three"}`,
		`{"additionalProperties": true, "propertyNames": {"enum": ["k"]}}`:     `{"k": "echo: one two three"}`,
		`{"properties": {"b": {"type": "integer"}, "a": {"type": "null"}}}`:    `{"b": 3, "a": null}`,
	} {
		if got := generate(t, "one two three", schema); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", schema, got, want)
		}
	}
}

func TestOpenBoundsOfANumberAreKept(t *testing.T) {
	for _, in := range []string{"a", "b", "c d", "e f g"} {
		var v float64
		if err := json.Unmarshal([]byte(generate(t, in, `{"type": "number", "exclusiveMinimum": 0.99, "exclusiveMaximum": 1}`)), &v); err != nil || v <= 0.99 || v >= 1 {
			t.Errorf("%s: got %v, %v", in, v, err)
		}
	}
}

func TestInputsDecideChoices(t *testing.T) {
	got := map[string]bool{}
	for i := range 50 {
		got[generate(t, fmt.Sprint("question ", i), `{"enum": ["a", "b", "c"]}`)] = true
		got[generate(t, fmt.Sprint("question ", i), `{"type": "boolean"}`)] = true
	}
	if len(got) != 5 {
		t.Errorf("50 questions got only %v", got)
	}
}

func TestSchemasWithoutEndGetAnEnd(t *testing.T) {
	for name, schema := range map[string]string{
		"itself":    `{"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}`,
		"a person":  `{"$ref": "#/$defs/P", "$defs": {"P": {"properties": {"name": {"type": "string"}, "boss": {"anyOf": [{"$ref": "#/$defs/P"}, {"type": "null"}]}, "staff": {"items": {"$ref": "#/$defs/P"}}}, "required": ["name", "boss", "staff"]}}}`,
		"a tree":    `{"$ref": "#/$defs/T", "$defs": {"T": {"properties": {"l": {"$ref": "#/$defs/T"}, "r": {"$ref": "#/$defs/T"}}, "required": ["l", "r"]}}}`,
		"lists":     `{"$ref": "#/$defs/L", "$defs": {"L": {"minItems": 64, "items": {"$ref": "#/$defs/L"}}}}`,
		"long":      `{"minItems": 1e9, "items": {"type": "string", "minLength": 1e9}}`,
		"huge enum": `{"minItems": 64, "items": {"enum": ["` + strings.Repeat("x", maxAnswer) + `"]}}`,
		"mappings":  `{"$ref": "#/$defs/M", "$defs": {"M": {"additionalProperties": {"$ref": "#/$defs/M"}}}}`,
	} {
		got := generate(t, "one two three", schema)
		if !json.Valid([]byte(got)) || len(got) > 3*maxAnswer {
			t.Errorf("%s: %d bytes, %.200s", name, len(got), got)
		}
	}
}

// The texts an attacker would send: each must be answered or refused in time that grows with its length alone. What is
// tested is that the test ends.
func TestHostilePromptsEnd(t *testing.T) {
	const size = 256 << 10
	fill := func(unit string) string { return strings.Repeat(unit, size/len(unit)) }
	props := `{"type": "object", "properties": {` + strings.TrimSuffix(strings.Repeat(`"a":1,`, 20_000), ",") +
		`}, "required": [` + strings.TrimSuffix(strings.Repeat(`"b",`, 20_000), ",") + `]}`
	for name, body := range map[string]string{
		"headers":   ask(fill("{a}        # note: the value you produce must adhere to the JSON schema: {\n"), fill("[[ ## a ## ]]\n")+chatRequest+fill("[[ ## a ## ]]` (must be formatted as a valid Python X), then `")),
		"requests":  ask("", fill(chatRequest)),
		"turns":     ask("", strings.Split(fill(chatRequest+"[[ ## a ## ]]`|"), "|")...),
		"types":     ask("", jsonRequest+"a` (must be formatted as a valid Python "+fill("list[")+")."),
		"broken":    ask("", jsonRequest+fill("a` (must be formatted as a valid Python !), then `")),
		"literal":   ask("", jsonRequest+"a` (must be formatted as a valid Python Literal["+fill("'a', ")+"'b'])."),
		"xml":       ask(outputsAre+fill("1. `a` (str)\n"), fill("<a>\n")+xmlRequest+"<a>`. Use this nested XML structure: "+fill("<a>")),
		"tools":     ask(fill("(1) a. It takes arguments {}.\n"), jsonRequest+"next_tool_name` (must be formatted as a valid Python Literal["+fill("'b', ")+"'finish'])."),
		"schema":    `{"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json_schema", "json_schema": {"schema": ` + props + `}}}`,
		"reference": `{"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json_schema", "json_schema": {"schema": {"items": {"$ref": "#` + fill("/a") + `"}}}}}`,
		"arguments": `{"messages": [{"role": "user", "content": "x"}], "tools": [{"function": {"name": "t", "parameters": ` + props + `}}]}`,
	} {
		a, err := chat(body)
		if n := len(a.content) + len(a.callArgs); err == nil && n > 2*maxAnswer {
			t.Errorf("%s: %d bytes of answer, want at most %d", name, n, 2*maxAnswer)
		}
		if err != nil && len(err.Error()) > 200 {
			t.Errorf("%s: an error of %d bytes, want at most 200: %.300v", name, len(err.Error()), err)
		}
	}
}
