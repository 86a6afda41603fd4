package echolm

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// integer reads a node as an integer.
func integer(n *node) (int64, bool) {
	v, err := strconv.ParseInt(n.text, 10, 64)
	return v, n.kind == number && err == nil
}

// limit returns a numeric keyword of a schema.
func limit(schema *node, key string) (float64, bool) {
	n := schema.get(key)
	if n == nil || n.kind != number {
		return 0, false
	}
	v, err := strconv.ParseFloat(n.text, 64)
	return v, err == nil
}

// integer counts the words of the input, inside the schema's limits.
func (g *generator) integer(schema *node, index int) int64 {
	v := float64(len(g.words) + max(index, 0))
	if low, ok := limit(schema, "exclusiveMinimum"); ok {
		v = max(v, math.Floor(low)+1)
	}
	if low, ok := limit(schema, "minimum"); ok {
		v = max(v, math.Ceil(low))
	}
	if high, ok := limit(schema, "exclusiveMaximum"); ok {
		v = min(v, math.Ceil(high)-1)
	}
	if high, ok := limit(schema, "maximum"); ok {
		v = min(v, math.Floor(high))
	}
	if step, ok := limit(schema, "multipleOf"); ok && step > 0 {
		v = math.Floor(v/step) * step
		if low, ok := limit(schema, "minimum"); ok && v < low {
			v += step
		}
	}
	return int64(max(-1<<53, min(v, 1<<53)))
}

// number is a fraction between 0 and 1 with two digits, moved inside the schema's limits.
func (g *generator) number(schema *node, index int) float64 {
	v := float64(g.choose(100, index)) / 100
	low, isLow := limit(schema, "minimum")
	if open, ok := limit(schema, "exclusiveMinimum"); ok && (!isLow || open >= low) {
		low, isLow = math.Nextafter(open, math.Inf(1)), true
	}
	high, isHigh := limit(schema, "maximum")
	if open, ok := limit(schema, "exclusiveMaximum"); ok && (!isHigh || open <= high) {
		high, isHigh = math.Nextafter(open, math.Inf(-1)), true
	}
	if isLow {
		v = max(v, low)
	}
	if isHigh {
		v = min(v, high)
	}
	return v
}

// formats are the texts for the formats that cannot hold an echo.
var formats = map[string]string{
	"date":      "2000-01-01",
	"date-time": "2000-01-01T00:00:00Z",
	"time":      "00:00:00Z",
	"duration":  "PT1S",
	"email":     "echo@example.com",
	"uri":       "http://echo.example/",
	"uuid":      "00000000-0000-4000-8000-000000000000",
	"ipv4":      "127.0.0.1",
	"ipv6":      "::1",
	"hostname":  "echo.example",
	"binary":    "echo",
}

func (g *generator) string(schema *node, index int) string {
	if s, ok := formats[schema.str("format")]; ok {
		return s
	}
	s := g.text(index)
	if n, ok := limit(schema, "maxLength"); ok && n >= 0 && float64(utf8.RuneCountInString(s)) > n {
		s = string([]rune(s)[:int(n)])
	}
	if n, ok := limit(schema, "minLength"); ok && n > 0 {
		if missing := min(int(min(n, maxPad)), maxPad) - utf8.RuneCountInString(s); missing > 0 {
			s += strings.Repeat(".", missing)
		}
	}
	return s
}

// array has an item for each of the first words of the input: one to three outside, one inside of other lists.
func (g *generator) array(dst []byte, schema *node, depth int) []byte {
	prefix := schema.get("prefixItems")
	size := max(1, min(3-depth, len(g.words)))
	if depth > recursionDepth {
		size = 0
	}
	if n, ok := limit(schema, "minItems"); ok {
		size = max(size, int(max(0, min(n, maxItems))))
	}
	if n, ok := limit(schema, "maxItems"); ok {
		size = min(size, int(max(0, min(n, maxItems))))
	}
	if !prefix.empty() {
		size = len(prefix.items)
	}
	dst = append(dst, '[')
	for i := range size {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		items := schema.get("items")
		if !prefix.empty() {
			items = &prefix.items[i]
		}
		dst = g.item(dst, items, depth+1, i)
	}
	return append(dst, ']')
}

func (g *generator) object(dst []byte, schema *node, depth int) []byte {
	properties := schema.get("properties")
	if properties.empty() {
		return g.mapping(dst, schema, depth)
	}
	some := g.requiredOnly || depth > recursionDepth
	required := requiredSet(schema, some)
	dst = append(dst, '{')
	first := true
	for i, name := range properties.keys {
		if g.budget--; g.budget < 0 {
			break
		}
		if some && !required[name] {
			continue
		}
		if !first {
			dst = append(dst, ", "...)
		}
		first = false
		dst = append(appendQuoted(dst, name), ": "...)
		dst = g.value(dst, &properties.items[i], depth+1)
	}
	return append(dst, '}')
}

// requiredSet returns the names that a schema requires, if they are needed.
func requiredSet(schema *node, wanted bool) map[string]bool {
	names := schema.get("required")
	if !wanted || names == nil {
		return nil
	}
	set := make(map[string]bool, len(names.items))
	for i := range names.items {
		set[names.items[i].text] = true
	}
	return set
}

// mapping has one entry, whose key fits the type of the keys; an object that allows no other properties is empty.
func (g *generator) mapping(dst []byte, schema *node, depth int) []byte {
	extra := schema.get("additionalProperties")
	closed := extra != nil && extra.kind == boolean && !extra.truth
	if closed || depth > recursionDepth || g.requiredOnly && extra == nil {
		return append(dst, "{}"...)
	}
	dst = append(dst, '{')
	dst = append(g.key(dst, schema.get("propertyNames")), ": "...)
	return append(g.value(dst, extra, depth+1), '}')
}

// key writes a key of a mapping: JSON has texts only, so the text of a value of the key's type.
func (g *generator) key(dst []byte, schema *node) []byte {
	schema = g.follow(schema, 0)
	if name := typeOf(schema); (name == "" || name == "string") && schema.get("enum") == nil && schema.get("const") == nil {
		return append(dst, `"echo"`...)
	}
	v := g.value(nil, schema, 0)
	if len(v) > 0 && v[0] == '"' {
		return append(dst, v...)
	}
	return appendQuoted(dst, string(v))
}
