package wire

import (
	"encoding/binary"
	"unicode/utf16"
	"unicode/utf8"
)

// text reads a JSON string to a str; what names it in errors.
func (p *jsonReader) text(what string) *Error {
	start := p.i + 1
	end, ascii := textRun(p.b, start)
	if end < len(p.b) && p.b[end] == '"' {
		raw := p.b[start:end]
		if !ascii && !utf8.Valid(raw) {
			return badUTF8(what)
		}
		p.out.dst = append(appendStrHead(p.out.dst, len(raw)), raw...)
		p.i = end + 1
		return nil
	}
	return p.escapedText(what, start)
}

// escapedText reads the string whose first byte is at start into dst behind room for the longest head, and closes up.
func (p *jsonReader) escapedText(what string, start int) *Error {
	const headMax = 5
	head := len(p.out.dst)
	p.out.dst = append(p.out.dst, make([]byte, headMax)...)
	p.i = start
	for {
		end, ascii := textRun(p.b, p.i)
		if !ascii && !utf8.Valid(p.b[p.i:end]) {
			return badUTF8(what)
		}
		p.out.dst = append(p.out.dst, p.b[p.i:end]...)
		p.i = end
		if end < len(p.b) && p.b[end] == '"' {
			break
		}
		if end >= len(p.b) || p.b[end] != '\\' {
			return p.wrong(Syntax, "a closing quote, control characters only as escapes")
		}
		if err := p.escape(); err != nil {
			return err
		}
	}
	p.i++
	text := p.out.dst[head+headMax:]
	out := appendStrHead(p.out.dst[:head], len(text))
	p.out.dst = append(out, text...) // moves down: append copies as memmove does
	return nil
}

// escape reads the escape at p.i.
func (p *jsonReader) escape() *Error {
	p.i++
	if p.i >= len(p.b) {
		return p.wrong(Syntax, "an escape")
	}
	c := p.b[p.i]
	switch c {
	case '"', '\\', '/':
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'u':
		return p.unicodeEscape()
	default:
		return p.wrong(Syntax, "an escape of JSON")
	}
	p.i++
	p.out.dst = append(p.out.dst, c)
	return nil
}

// unicodeEscape reads uXXXX at p.i, and the second half if it is the first one of a surrogate pair.
func (p *jsonReader) unicodeEscape() *Error {
	r, err := p.hex4()
	if err != nil {
		return err
	}
	if utf16.IsSurrogate(r) {
		lone := &Error{Problem: BadEncoding, Expected: "surrogates in pairs"}
		if p.i+1 >= len(p.b) || p.b[p.i] != '\\' || p.b[p.i+1] != 'u' {
			return lone
		}
		p.i++
		second, err := p.hex4()
		if err != nil {
			return err
		}
		if r = utf16.DecodeRune(r, second); r == utf8.RuneError {
			return lone
		}
	}
	p.out.dst = utf8.AppendRune(p.out.dst, r)
	return nil
}

// hex4 reads the u at p.i and the four digits behind it.
func (p *jsonReader) hex4() (rune, *Error) {
	var r rune
	p.i++
	for range 4 {
		if p.i >= len(p.b) {
			return 0, p.wrong(Syntax, "a hexadecimal digit")
		}
		c := p.b[p.i]
		switch {
		case c-'0' <= 9:
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = (c | 0x20) - 'a' + 10
		default:
			return 0, p.wrong(Syntax, "a hexadecimal digit")
		}
		r = r<<4 | rune(c)
		p.i++
	}
	return r, nil
}

// Masks for eight bytes at once.
const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// textRun returns the offset of the first quote, backslash or control character from i on, len(b) if there is none,
// and whether all bytes before it are ASCII. It looks at eight bytes at a time: most of a large request is text.
func textRun(b []byte, i int) (end int, ascii bool) {
	var high uint64
	for ; i+8 <= len(b); i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		quote, slash := x^('"'*ones), x^('\\'*ones)
		// Each term has a byte's top bit set where the byte is zero, or below a space; never set in a run without one.
		if ((quote-ones)&^quote|(slash-ones)&^slash|(x-' '*ones)&^x)&highs != 0 {
			break
		}
		high |= x
	}
	ascii = high&highs == 0
	for ; i < len(b); i++ {
		c := b[i]
		if c == '"' || c == '\\' || c < ' ' {
			break
		}
		if c >= utf8.RuneSelf {
			ascii = false
		}
	}
	return i, ascii
}
