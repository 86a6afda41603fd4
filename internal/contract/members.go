package contract

import (
	"bytes"
	"strings"
)

// Members calls f for each member of an object of valid JSON, until f returns false. It reports whether there was an object, without escapes
// in its keys, and f returned true for all of it.
func Members(object []byte, f func(key, value []byte) bool) bool {
	rest := bytes.TrimLeft(object, space)
	if len(rest) == 0 || rest[0] != '{' {
		return false
	}
	for rest = bytes.TrimLeft(rest[1:], space); len(rest) > 0 && rest[0] == '"'; rest = bytes.TrimLeft(rest[1:], space) {
		n := valueEnd(rest)
		key := rest[1 : n-1]
		rest = bytes.TrimLeft(rest[n:], space)
		rest = bytes.TrimLeft(rest[1:], space) // behind the colon
		n = valueEnd(rest)
		if bytes.IndexByte(key, '\\') >= 0 || !f(key, rest[:n:n]) {
			return false
		}
		if rest = bytes.TrimLeft(rest[n:], space); len(rest) == 0 || rest[0] == '}' {
			return true
		}
	}
	return len(rest) > 0 && rest[0] == '}'
}

const space = " \t\r\n"

// valueEnd is where the value ends with which valid JSON begins.
func valueEnd(text []byte) int {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			if quoted = !quoted; !quoted && depth == 0 {
				return i + 1
			}
		case quoted:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth == 0 {
				return i // of a number or a word
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case depth == 0 && (c == ',' || strings.IndexByte(space, c) >= 0):
			return i
		}
	}
	return len(text)
}
