package echolm

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

func (p *parser) number() (node, error) {
	start := p.i
	p.take("-")
	if whole := p.digits(); whole == 0 || whole > 1 && p.s[p.i-whole] == '0' {
		return node{}, p.fail("a number")
	}
	if p.take(".") && p.digits() == 0 {
		return node{}, p.fail("a digit")
	}
	if p.take("eE") {
		p.take("+-")
		if p.digits() == 0 {
			return node{}, p.fail("a digit")
		}
	}
	literal := p.s[start:p.i]
	if _, err := strconv.ParseFloat(literal, 64); err != nil {
		return node{}, p.fail("a finite number")
	}
	return node{kind: number, text: literal}, nil
}

// take steps over the next byte if it is one of those.
func (p *parser) take(bytes string) bool {
	ok := p.i < len(p.s) && strings.IndexByte(bytes, p.s[p.i]) >= 0
	if ok {
		p.i++
	}
	return ok
}

// digits steps over digits and counts them.
func (p *parser) digits() int {
	start := p.i
	for p.take("0123456789") {
	}
	return p.i - start
}

// quoted reads a string; without escapes in it the result shares the memory of the input.
func (p *parser) quoted() (string, error) {
	quote := p.s[p.i]
	p.i++
	start := p.i
	var out []byte
	for {
		p.bare(quote)
		if p.i >= len(p.s) {
			return "", p.fail("the end of a string")
		}
		switch p.s[p.i] {
		case quote:
			s := p.s[start:p.i]
			p.i++
			if out != nil {
				s = string(append(out, s...))
			}
			return s, nil
		case '\\':
			if out == nil {
				out = make([]byte, 0, p.length(quote)+p.i-start)
			}
			out = append(out, p.s[start:p.i]...)
			var ok bool
			if out, ok = p.escape(out); !ok {
				return "", p.fail("a valid escape")
			}
			start = p.i
		default:
			return "", p.fail("no bare control character")
		}
	}
}

// bare steps over characters that stand for themselves.
func (p *parser) bare(quote byte) {
	low := byte(0x20)
	if p.python {
		low = 0
	}
	i, s := p.i, p.s
	for i < len(s) && s[i] != quote && s[i] != '\\' && s[i] >= low {
		i++
	}
	p.i = i
}

// length returns the bytes up to the end of the string that p.i stands in: what it stands for is not longer.
func (p *parser) length(quote byte) int {
	for i := p.i; i < len(p.s); i++ {
		switch p.s[i] {
		case '\\':
			i++
		case quote:
			return i - p.i
		}
	}
	return 0
}

// escape appends what the escape at p.i stands for and steps over it.
func (p *parser) escape(out []byte) ([]byte, bool) {
	if p.i+1 >= len(p.s) {
		return out, false
	}
	c := p.s[p.i+1]
	p.i += 2
	if i := strings.IndexByte(`"\/bfnrt`, c); i >= 0 {
		return append(out, "\"\\/\b\f\n\r\t"[i]), true
	}
	switch {
	case c == 'u':
		return p.utf16(out)
	case c == '\'' && p.python:
		return append(out, c), true
	case (c == 'x' || c == 'U') && p.python:
		r, ok := p.hex(map[byte]int{'x': 2, 'U': 8}[c])
		return utf8.AppendRune(out, r), ok
	}
	return out, false
}

// utf16 appends the character of a \u escape, of two if they are a pair; half a pair becomes U+FFFD.
func (p *parser) utf16(out []byte) ([]byte, bool) {
	r, ok := p.hex(4)
	if !ok || !utf16.IsSurrogate(r) {
		return utf8.AppendRune(out, r), ok
	}
	if strings.HasPrefix(p.s[p.i:], `\u`) {
		back := p.i
		p.i += 2
		low, ok := p.hex(4)
		if whole := utf16.DecodeRune(r, low); ok && whole != utf8.RuneError {
			return utf8.AppendRune(out, whole), true
		}
		p.i = back
	}
	return utf8.AppendRune(out, utf8.RuneError), true
}

func (p *parser) hex(digits int) (rune, bool) {
	if p.i+digits > len(p.s) {
		return 0, false
	}
	v, err := strconv.ParseUint(p.s[p.i:p.i+digits], 16, 32)
	p.i += digits
	return rune(v), err == nil
}
