package echolm

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Bounds of one parsed text. Pydantic's schemas stay far below; a node takes 72 bytes, so the count is what bounds memory.
const (
	maxDepth = 100
	maxNodes = 200_000
)

type kind uint8

const (
	null kind = iota
	boolean
	number
	text
	list
	object
)

// node is a JSON value that keeps the order of its keys: answers follow the order of a schema's properties, and
// encoding/json drops it.
type node struct {
	kind  kind
	truth bool
	text  string   // a text decoded, a number as it was written
	keys  []string // of an object, beside items
	items []node
}

func str(s string) node { return node{kind: text, text: s} }

func obj(pairs ...any) node {
	n := node{kind: object}
	for i := 0; i < len(pairs); i += 2 {
		n.keys = append(n.keys, pairs[i].(string))
		n.items = append(n.items, pairs[i+1].(node))
	}
	return n
}

// get returns the value of a key, or nil if n is no object or has no such key. The last of equal keys counts.
func (n *node) get(key string) *node {
	if n == nil || n.kind != object {
		return nil
	}
	for i := len(n.keys) - 1; i >= 0; i-- {
		if n.keys[i] == key {
			return &n.items[i]
		}
	}
	return nil
}

// str returns the text of a key, "" if it holds none.
func (n *node) str(key string) string {
	if v := n.get(key); v != nil && v.kind == text {
		return v.text
	}
	return ""
}

func (n *node) true(key string) bool {
	v := n.get(key)
	return v != nil && v.kind == boolean && v.truth
}

func (n *node) empty() bool { return n == nil || len(n.items) == 0 }

// appendJSON writes n as compact JSON.
func (n *node) appendJSON(dst []byte) []byte {
	switch n.kind {
	case boolean:
		if n.truth {
			return append(dst, "true"...)
		}
		return append(dst, "false"...)
	case number:
		return append(dst, n.text...)
	case text:
		return appendQuoted(dst, n.text)
	case list:
		dst = append(dst, '[')
		for i := range n.items {
			if i > 0 {
				dst = append(dst, ", "...)
			}
			dst = n.items[i].appendJSON(dst)
		}
		return append(dst, ']')
	case object:
		dst = append(dst, '{')
		for i := range n.items {
			if i > 0 {
				dst = append(dst, ", "...)
			}
			dst = append(appendQuoted(dst, n.keys[i]), ": "...)
			dst = n.items[i].appendJSON(dst)
		}
		return append(dst, '}')
	}
	return append(dst, "null"...)
}

const hexDigits = "0123456789abcdef"

// appendQuoted writes s as a JSON string; bytes that are no UTF-8 become U+FFFD. What Python takes for the end of a line is
// escaped: DSPy splits an answer into lines before it reads the JSON in them.
func appendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if (r != utf8.RuneError || size > 1) && r != 0x85 && r != 0x2028 && r != 0x2029 {
				i += size
				continue
			}
			dst = append(append(dst, s[start:i]...), `\u`...)
			dst = append(dst, hexDigits[r>>12], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
			i += size
			start = i
			continue
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, `\n`...)
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	return append(append(dst, s[start:]...), '"')
}

// parseJSON reads one JSON value and nothing behind it.
func parseJSON(s string) (node, error) {
	p := parser{s: s, nodes: maxNodes}
	n, err := p.value(0)
	if err != nil {
		return node{}, err
	}
	if p.space(); p.i < len(p.s) {
		return node{}, p.fail("the end")
	}
	return n, nil
}

// parsePython reads the literal that s starts with as Python's repr writes it: DSPy shows a tool's arguments so.
func parsePython(s string) (node, error) {
	p := parser{s: s, nodes: maxNodes, python: true}
	return p.value(0)
}

// parser reads JSON, or the literals of Python that stand for the same values.
type parser struct {
	s      string
	i      int
	nodes  int
	python bool
}

func (p *parser) fail(expected string) error {
	return fmt.Errorf("at byte %d: expected %s", p.i, expected)
}

func (p *parser) space() {
	for p.i < len(p.s) && strings.IndexByte(" \t\r\n", p.s[p.i]) >= 0 {
		p.i++
	}
}

// next skips space and takes c if it comes next.
func (p *parser) next(c byte) bool {
	p.space()
	if p.i < len(p.s) && p.s[p.i] == c {
		p.i++
		return true
	}
	return false
}

func (p *parser) value(depth int) (node, error) {
	if depth > maxDepth {
		return node{}, p.fail(fmt.Sprintf("at most %d levels", maxDepth))
	}
	if p.nodes--; p.nodes < 0 {
		return node{}, p.fail(fmt.Sprintf("at most %d values", maxNodes))
	}
	p.space()
	if p.i >= len(p.s) {
		return node{}, p.fail("a value")
	}
	switch c := p.s[p.i]; {
	case c == '{':
		return p.object(depth)
	case c == '[' || c == '(' && p.python:
		return p.list(depth)
	case c == '"' || c == '\'' && p.python:
		s, err := p.quoted()
		return str(s), err
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	}
	return p.word()
}

func (p *parser) word() (node, error) {
	words := []string{"true", "false", "null"}
	if p.python {
		words = []string{"True", "False", "None"}
	}
	for i, word := range words {
		if strings.HasPrefix(p.s[p.i:], word) {
			p.i += len(word)
			return [...]node{{kind: boolean, truth: true}, {kind: boolean}, {}}[i], nil
		}
	}
	return node{}, p.fail("a value")
}

func (p *parser) list(depth int) (node, error) {
	end := byte(']')
	if p.s[p.i] == '(' {
		end = ')'
	}
	p.i++
	n := node{kind: list}
	if p.next(end) {
		return n, nil
	}
	for {
		item, err := p.value(depth + 1)
		if err != nil {
			return node{}, err
		}
		n.items = append(n.items, item)
		if p.next(',') {
			if p.python && p.next(end) {
				return n, nil
			}
			continue
		}
		if p.next(end) {
			return n, nil
		}
		return node{}, p.fail("',' or '" + string(end) + "'")
	}
}

func (p *parser) object(depth int) (node, error) {
	p.i++
	n := node{kind: object}
	if p.next('}') {
		return n, nil
	}
	n.keys, n.items = make([]string, 0, 4), make([]node, 0, 4)
	for {
		key, err := p.key()
		if err != nil {
			return node{}, err
		}
		item, err := p.value(depth + 1)
		if err != nil {
			return node{}, err
		}
		n.keys, n.items = append(n.keys, key), append(n.items, item)
		if p.next(',') {
			continue
		}
		if p.next('}') {
			return n, nil
		}
		return node{}, p.fail("',' or '}'")
	}
}

func (p *parser) key() (string, error) {
	p.space()
	if p.i >= len(p.s) || p.s[p.i] != '"' && !(p.python && p.s[p.i] == '\'') {
		return "", p.fail("a key in quotes")
	}
	key, err := p.quoted()
	if err == nil && !p.next(':') {
		err = p.fail("':'")
	}
	return key, err
}
