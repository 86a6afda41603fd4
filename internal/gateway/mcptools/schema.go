package mcptools

import (
	"maps"
	"regexp"
	"strconv"
	"strings"
)

// field is an input or an output of a signature, as lists of programs have it.
type field struct {
	Name        string `json:"name"`
	Type        string `json:"type"`
	Description string `json:"description"`
	Required    *bool  `json:"required"`
}

// schema is a JSON Schema.
type schema = map[string]any

// schemaOf describes the fields of one side of a signature. A field of type history may be left out, and so may an optional one.
func schemaOf(fields []field) schema {
	properties, required := schema{}, []string{}
	for _, f := range fields {
		of := typeSchema(f.Type)
		if f.Description != "" {
			of["description"] = f.Description
		}
		properties[f.Name] = of
		if optional := strings.HasPrefix(f.Type, "Optional[") || strings.HasSuffix(f.Type, "None") || f.Type == "history" || f.Type == "dspy.History"; f.Required == nil && !optional || f.Required != nil && *f.Required {
			required = append(required, f.Name)
		}
	}
	return schema{"type": "object", "properties": properties, "required": required}
}

// scalars are the types without parameters (contract/commands.md, "Signatures").
var scalars = map[string]schema{
	"": {"type": "string"}, "string": {"type": "string"}, "str": {"type": "string"}, "integer": {"type": "integer"}, "int": {"type": "integer"},
	"number": {"type": "number"}, "float": {"type": "number"}, "boolean": {"type": "boolean"}, "bool": {"type": "boolean"},
	"list": {"type": "array"}, "dict": {"type": "object"}, "None": {"type": "null"},
	"history": {"type": "array", "items": schema{"type": "object"}}, "dspy.History": {"type": "array", "items": schema{"type": "object"}},
}

var token = regexp.MustCompile(`\s*([A-Za-z_][A-Za-z0-9_.]*|-?[0-9]+|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[\[\],|])`)

// typeSchema describes the values of a type. What it does not support, such as a class of a module, may be anything.
func typeSchema(text string) schema {
	if strings.TrimSpace(text) == "" {
		return schema{"type": "string"}
	}
	p := &parser{}
	rest := text
	for rest != "" {
		m := token.FindStringSubmatchIndex(rest)
		if m == nil || m[0] != 0 {
			if strings.TrimSpace(rest) == "" {
				break
			}
			return schema{}
		}
		p.tokens = append(p.tokens, rest[m[2]:m[3]])
		rest = rest[m[1]:]
	}
	of, ok := p.union(0)
	if !ok || len(p.tokens) > 0 {
		return schema{}
	}
	return of
}

type parser struct{ tokens []string }

const deepest = 8 // as the contract has it

func (p *parser) take(text string) bool {
	if len(p.tokens) == 0 || p.tokens[0] != text {
		return false
	}
	p.tokens = p.tokens[1:]
	return true
}

func (p *parser) union(depth int) (schema, bool) {
	of, ok := p.one(depth)
	all := []any{of}
	for ok && p.take("|") {
		var more schema
		more, ok = p.one(depth)
		all = append(all, more)
	}
	if len(all) > 1 {
		return schema{"anyOf": all}, ok
	}
	return of, ok
}

func (p *parser) one(depth int) (schema, bool) {
	if len(p.tokens) == 0 || depth > deepest {
		return nil, false
	}
	name := p.tokens[0]
	p.tokens = p.tokens[1:]
	if name == "Literal" {
		return p.literal()
	}
	if !p.take("[") {
		return copied(scalars[name]), true
	}
	var args []schema
	for {
		arg, ok := p.union(depth + 1)
		if !ok {
			return nil, false
		}
		if args = append(args, arg); p.take(",") {
			continue
		}
		if !p.take("]") {
			return nil, false
		}
		break
	}
	switch last := args[len(args)-1]; name {
	case "list":
		return schema{"type": "array", "items": last}, true
	case "dict":
		return schema{"type": "object", "additionalProperties": last}, true
	case "Optional":
		return schema{"anyOf": []any{last, schema{"type": "null"}}}, true
	}
	return schema{}, true
}

func (p *parser) literal() (schema, bool) {
	if !p.take("[") {
		return nil, false
	}
	var values []any
	for len(p.tokens) > 0 {
		text := p.tokens[0]
		p.tokens = p.tokens[1:]
		switch n, err := strconv.ParseInt(text, 10, 64); {
		case err == nil:
			values = append(values, n)
		case text == "True" || text == "False":
			values = append(values, text == "True")
		case len(text) > 1 && (text[0] == '\'' || text[0] == '"'):
			values = append(values, regexp.MustCompile(`\\(.)`).ReplaceAllString(text[1:len(text)-1], "$1"))
		default:
			return nil, false
		}
		if p.take("]") {
			return schema{"enum": values}, true
		}
		if !p.take(",") {
			return nil, false
		}
	}
	return nil, false
}

func copied(s schema) schema {
	all := schema{}
	maps.Copy(all, s)
	return all
}
