package wire

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// The problems an [Error] can name.
const (
	BadEncoding  = "bad_encoding"  // not UTF-8, a byte order mark, a lone surrogate
	DuplicateKey = "duplicate_key" // a key stands twice in one map
	KeyCase      = "key_case"      // two keys of one map differ only by case
	TooDeep      = "too_deep"      // more arrays and maps inside each other than allowed
	TooLarge     = "too_large"     // more values and keys than allowed
	BadType      = "bad_type"      // a kind that may not stand here, a number out of range
	Trailing     = "trailing"      // bytes behind the value
	Truncated    = "truncated"     // the value ends early, or a length promises more than there is
	Syntax       = "syntax"        // not JSON
)

// Error reports what is wrong with a value and where. It holds keys of the value but none of its contents.
type Error struct {
	Problem  string // one of the constants above
	Path     string // like args.inputs[3].name; empty for the value itself
	Expected string // what would have been right
}

// Error returns the three parts in one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("wire: ")
	if e.Path != "" {
		b.WriteString(e.Path)
		b.WriteString(": ")
	}
	b.WriteString(e.Problem)
	b.WriteString(": expected ")
	b.WriteString(e.Expected)
	return b.String()
}

// pathKeyMax bounds what one key adds to a path, so that a hostile key does not become a hostile log line.
const pathKeyMax = 64

// inKey and inIndex prepend a step to the path: the walkers call them while they return, so that success builds no path.
func (e *Error) inKey(key []byte) *Error {
	if e.Problem == TooLarge {
		return e // about the whole value, wherever the walk detected it
	}
	e.Path = joinPath(keyStep(key), e.Path)
	return e
}

func (e *Error) inIndex(i int) *Error {
	if e.Problem == TooLarge {
		return e
	}
	e.Path = joinPath("["+strconv.Itoa(i)+"]", e.Path)
	return e
}

func joinPath(step, rest string) string {
	if rest == "" || rest[0] == '[' {
		return step + rest
	}
	return step + "." + rest
}

func keyStep(key []byte) string {
	cut := key
	if len(cut) > pathKeyMax {
		cut = cut[:pathKeyMax]
		for len(cut) > 0 && !utf8.RuneStart(key[len(cut)]) {
			cut = cut[:len(cut)-1]
		}
	}
	if len(cut) == len(key) && isName(cut) {
		return string(cut)
	}
	if len(cut) < len(key) {
		return "[" + strconv.Quote(string(cut)+"...") + "]"
	}
	return "[" + strconv.Quote(string(cut)) + "]"
}

// plainInPaths are the bytes of a key that is written without quotes.
const plainInPaths = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"

func isName(b []byte) bool {
	for _, c := range b {
		if strings.IndexByte(plainInPaths, c) < 0 {
			return false
		}
	}
	return len(b) > 0
}

func truncated(what string) *Error {
	return &Error{Problem: Truncated, Expected: what}
}

func tooDeep(limit int) *Error {
	return &Error{Problem: TooDeep, Expected: "at most " + strconv.Itoa(limit) + " arrays and maps inside each other"}
}

func tooLarge(limit int) *Error {
	return &Error{Problem: TooLarge, Expected: "at most " + strconv.Itoa(limit) + " values and keys"}
}

func badUTF8(what string) *Error {
	return &Error{Problem: BadEncoding, Expected: what + " in valid UTF-8"}
}
