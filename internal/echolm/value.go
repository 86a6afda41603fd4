package echolm

import (
	"strconv"
	"strings"
)

// Bounds of a generated answer: a schema of a few bytes can describe a tree without end.
const (
	maxGenerated   = 5_000   // values of one answer
	maxAnswer      = 1 << 20 // bytes, beyond which only the least that is valid is added
	maxValueDepth  = 24
	recursionDepth = 5 // deeper, optional values are left out
	maxPad         = 4096
	maxItems       = 64
	maxReference   = 512 // bytes of a $ref
)

// generator derives values from the input of a task. Texts repeat it, integers count its words, the rest is chosen by a
// hash of it and of the field: equal prompts get equal answers, different inputs mostly different ones.
type generator struct {
	prefix       string   // what a text starts with, "echo: "
	input        string   // cleaned
	words        []string // of input
	seed         uint32
	root         *node // of the schema in work, for references
	requiredOnly bool
	budget       int
}

func newGenerator(t *task) *generator {
	g := &generator{prefix: "echo: ", input: t.input, words: strings.Fields(t.input), seed: hash(t.input, 2166136261), budget: maxGenerated}
	if t.turn > 1 {
		g.prefix = "echo (turn " + strconv.Itoa(t.turn) + "): "
	}
	return g
}

// hash is FNV-1a: it must give the same answers in every process and version.
func hash(s string, h uint32) uint32 {
	for i := range len(s) {
		h = (h ^ uint32(s[i])) * 16777619
	}
	return h
}

// field sets the generator to a field: its name is part of what decides.
func (g *generator) field(f *field) {
	g.root = &f.schema
	g.seed = hash(f.name, hash(g.input, 2166136261))
}

// text is the echo itself, or that of one word if it is an item of a list.
func (g *generator) text(item int) string {
	if item < 0 || len(g.words) == 0 {
		return g.prefix + g.input
	}
	return g.prefix + g.words[item%len(g.words)]
}

// value appends a JSON value that fits the schema.
func (g *generator) value(dst []byte, schema *node, depth int) []byte {
	return g.item(dst, schema, depth, -1)
}

// item is value for the item with that index of a list; -1 outside of lists.
func (g *generator) item(dst []byte, schema *node, depth, index int) []byte {
	schema = g.follow(schema, depth)
	g.spend(schema)
	if g.budget < 0 || depth > maxValueDepth || len(dst) > maxAnswer {
		return append(dst, least(schema)...)
	}
	if v := schema.get("const"); v != nil {
		return v.appendJSON(dst)
	}
	if choices := schema.get("enum"); !choices.empty() {
		return choices.items[g.choose(len(choices.items), index)].appendJSON(dst)
	}
	switch typeOf(schema) {
	case "integer":
		return strconv.AppendInt(dst, g.integer(schema, index), 10)
	case "number":
		return strconv.AppendFloat(dst, g.number(schema, index), 'f', -1, 64)
	case "boolean":
		return strconv.AppendBool(dst, g.choose(2, index) == 0)
	case "null":
		return append(dst, "null"...)
	case "array":
		return g.array(dst, schema, depth)
	case "object":
		return g.object(dst, schema, depth)
	}
	return appendQuoted(dst, g.string(schema, index))
}

// spend takes a value off the budget; looking into a large schema costs as much as several small ones.
func (g *generator) spend(schema *node) {
	g.budget--
	if schema == nil {
		return
	}
	g.budget -= len(schema.keys) / 64
	if names := schema.get("required"); names != nil {
		g.budget -= len(names.items) / 64
	}
}

// follow resolves references and unions until a plain schema is left.
func (g *generator) follow(schema *node, depth int) *node {
	for range 32 {
		next := (*node)(nil)
		if ref := schema.str("$ref"); ref != "" {
			next = g.reference(ref)
		} else {
			for _, key := range []string{"anyOf", "oneOf", "allOf"} {
				if arms := schema.get(key); next == nil && !arms.empty() && schema.get("properties") == nil {
					next = arm(arms.items, depth > recursionDepth)
				}
			}
		}
		if next == nil {
			return schema
		}
		schema = next
	}
	return nil
}

// arm picks the first arm that is not null; in great depth null, which ends a recursion.
func arm(arms []node, wantNull bool) *node {
	var first *node
	for i := range arms {
		isNull := arms[i].str("type") == "null"
		if isNull && wantNull {
			return &arms[i]
		}
		if !isNull && first == nil {
			first = &arms[i]
		}
	}
	if first == nil {
		return &arms[0]
	}
	return first
}

// reference follows "#/$defs/Name" from the root.
func (g *generator) reference(ref string) *node {
	path, ok := strings.CutPrefix(ref, "#")
	if !ok || len(ref) > maxReference {
		return &anything
	}
	at := g.root
	for part := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		if part != "" {
			at = at.get(pointerEscapes.Replace(part))
		}
	}
	if at == nil {
		return &anything
	}
	return at
}

var (
	anything       = node{kind: object}
	pointerEscapes = strings.NewReplacer("~1", "/", "~0", "~")
)

// typeOf returns a schema's type, of several the first that is not null; without one what its keywords imply, else "".
func typeOf(schema *node) string {
	t := schema.get("type")
	switch {
	case t == nil && (schema.get("properties") != nil || schema.get("additionalProperties") != nil):
		return "object"
	case t == nil && (schema.get("items") != nil || schema.get("prefixItems") != nil):
		return "array"
	case t == nil:
		return ""
	case t.kind == text:
		return t.text
	}
	for i := range t.items {
		if name := t.items[i].text; name != "null" {
			return name
		}
	}
	return "null"
}

// least is the smallest value of a schema's type.
func least(schema *node) string {
	switch typeOf(schema) {
	case "integer", "number":
		return "0"
	case "boolean":
		return "false"
	case "array":
		return "[]"
	case "object":
		return "{}"
	case "string":
		return `"echo"`
	}
	return "null"
}

func (g *generator) choose(n, index int) int {
	h := g.seed
	if index > 0 {
		h = hash(strconv.Itoa(index), h)
	}
	return int((h ^ h>>15) % uint32(n))
}
