package wire

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"
)

// FromJSON returns the canonical MessagePack form of b, one JSON text, read strictly: see values.md. A number with a
// fraction or an exponent becomes a float, another one an int. The error is an [*Error]; for what is not JSON it
// names the byte. The result is a new slice.
func FromJSON(b []byte, lim Limits) ([]byte, error) {
	if bytes.HasPrefix(b, []byte("\xef\xbb\xbf")) {
		return nil, &Error{Problem: BadEncoding, Expected: "UTF-8 without byte order mark"}
	}
	p := jsonReader{b: b, nodes: lim.Nodes, lim: lim, out: sorter{dst: make([]byte, 0, len(b)+8), scratch: takeScratch()}}
	defer p.out.giveBack()
	if err := p.whole(); err != nil {
		return nil, err
	}
	return p.out.dst, nil
}

type jsonReader struct {
	b     []byte
	i     int
	nodes int // left
	lim   Limits
	out   sorter
}

func (p *jsonReader) whole() *Error {
	if err := p.value(0); err != nil {
		return err
	}
	if p.next(); p.i < len(p.b) {
		return p.wrong(Trailing, "the end behind one value")
	}
	return nil
}

// wrong is the error about the byte at p.i, or about the end if there is none.
func (p *jsonReader) wrong(problem, expected string) *Error {
	if p.i >= len(p.b) {
		return truncated(expected + ", not the end of the text")
	}
	return &Error{Problem: problem, Expected: expected + " at byte " + strconv.Itoa(p.i)}
}

// next skips white space and returns the byte that follows, 0 at the end.
func (p *jsonReader) next() byte {
	for ; p.i < len(p.b); p.i++ {
		switch c := p.b[p.i]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

func (p *jsonReader) count() *Error {
	if p.nodes--; p.nodes < 0 {
		return tooLarge(p.lim.Nodes)
	}
	return nil
}

// value reads the next value, inside of depth containers.
func (p *jsonReader) value(depth int) *Error {
	if err := p.count(); err != nil {
		return err
	}
	switch c := p.next(); c {
	case '"':
		return p.text("text")
	case '{':
		return p.object(depth)
	case '[':
		return p.array(depth)
	case 't':
		return p.literal("true", 0xc3)
	case 'f':
		return p.literal("false", 0xc2)
	case 'n':
		return p.literal("null", 0xc0)
	default:
		if c == '-' || c-'0' <= 9 {
			return p.number()
		}
	}
	return p.wrong(Syntax, "a JSON value")
}

func (p *jsonReader) literal(word string, code byte) *Error {
	rest := p.b[p.i:]
	if len(rest) < len(word) && word[:len(rest)] == string(rest) {
		p.i = len(p.b)
	}
	if len(rest) < len(word) || string(rest[:len(word)]) != word {
		return p.wrong(Syntax, word)
	}
	p.i += len(word)
	p.out.dst = append(p.out.dst, code)
	return nil
}

func (p *jsonReader) array(depth int) *Error {
	if depth >= p.lim.Depth {
		return tooDeep(p.lim.Depth)
	}
	p.i++
	start := p.out.open()
	n := 0
	if p.next() == ']' {
		p.i++
	} else {
		for more := true; more; n++ {
			if err := p.value(depth + 1); err != nil {
				return err.inIndex(n)
			}
			var err *Error
			if more, err = p.comma(']', "a comma or ]"); err != nil {
				return err
			}
		}
	}
	p.out.close(start, n, 0x90, 0xdc)
	return nil
}

// comma consumes what follows an element: true for a comma, false for the closing byte.
func (p *jsonReader) comma(closing byte, expected string) (bool, *Error) {
	switch p.next() {
	case ',':
		p.i++
		return true, nil
	case closing:
		p.i++
		return false, nil
	}
	return false, p.wrong(Syntax, expected)
}

func (p *jsonReader) object(depth int) *Error {
	if depth >= p.lim.Depth {
		return tooDeep(p.lim.Depth)
	}
	p.i++
	base, start := len(p.out.entries), p.out.open()
	if p.next() == '}' {
		p.i++
	} else {
		for more := true; more; {
			var err *Error
			if more, err = p.member(depth); err != nil {
				return err
			}
		}
	}
	entries := p.out.entries[base:]
	if err := p.out.keys.clash(p.out.dst, entries); err != nil {
		return err
	}
	n := len(entries)
	p.out.sort(base, start)
	p.out.close(start, n, 0x80, 0xde)
	return nil
}

// member reads one key and value and what follows it; the result is true if that is a comma.
func (p *jsonReader) member(depth int) (bool, *Error) {
	if p.next() != '"' {
		return false, p.wrong(Syntax, "a key in quotes")
	}
	if err := p.count(); err != nil {
		return false, err
	}
	head := len(p.out.dst)
	if err := p.text("a key"); err != nil {
		return false, err
	}
	t := scan(p.out.dst, head)
	e := entry{key: t.next, keyEnd: len(p.out.dst)}
	e.plain, _ = plainKey(e.text(p.out.dst))
	e.plain = e.plain || p.lim.AnyCase
	p.out.entries = append(p.out.entries, e)
	mark := len(p.out.entries) - 1

	if p.next() != ':' {
		return false, p.wrong(Syntax, "a colon").inKey(e.text(p.out.dst))
	}
	p.i++
	if err := p.value(depth + 1); err != nil {
		return false, err.inKey(e.text(p.out.dst))
	}
	p.out.entries[mark].end = len(p.out.dst)
	return p.comma('}', "a comma or }")
}

// open leaves a byte for the head of an array or map, enough for a short one, and returns where the contents begin.
func (s *sorter) open() int {
	s.dst = append(s.dst, 0)
	return len(s.dst)
}

// close writes the head of the n entries at dst[start:], which move up if it is a long one.
func (s *sorter) close(start, n int, fix, code byte) {
	var room [5]byte
	head := appendHead(room[:0], n, fix, code)
	if more := len(head) - 1; more > 0 {
		s.dst = append(s.dst, head[:more]...)
		copy(s.dst[start+more:], s.dst[start:])
	}
	copy(s.dst[start-1:], head)
}

// number reads a number by the grammar of JSON.
func (p *jsonReader) number() *Error {
	start := p.i
	neg := p.b[p.i] == '-'
	if neg {
		p.i++
	}
	first := p.i
	value, fits := p.digits()
	switch {
	case p.i == first:
		return p.wrong(Syntax, "a digit")
	case p.b[first] == '0' && p.i > first+1:
		p.i = first + 1
		return p.wrong(Syntax, "a number without leading zero")
	}
	if p.i < len(p.b) && (p.b[p.i] == '.' || p.b[p.i]|0x20 == 'e') {
		return p.float(start)
	}
	switch {
	case !fits || neg && value > 1<<63:
		return &Error{Problem: BadType, Expected: "an int from -2^63 to 2^64-1"}
	case neg:
		p.out.dst = AppendInt(p.out.dst, -int64(value))
	default:
		p.out.dst = AppendUint(p.out.dst, value)
	}
	return nil
}

// digits reads decimal digits and returns their value, and whether it fits in 64 bits.
func (p *jsonReader) digits() (value uint64, fits bool) {
	fits = true
	for ; p.i < len(p.b); p.i++ {
		d := uint64(p.b[p.i] - '0')
		if d > 9 {
			break
		}
		if value > math.MaxUint64/10 || value*10 > math.MaxUint64-d {
			fits = false
		}
		value = value*10 + d
	}
	return value, fits
}

// float reads the fraction and the exponent of the number that begins at start.
func (p *jsonReader) float(start int) *Error {
	if p.b[p.i] == '.' {
		p.i++
		if !p.someDigits() {
			return p.wrong(Syntax, "a digit")
		}
	}
	if p.i < len(p.b) && p.b[p.i]|0x20 == 'e' {
		p.i++
		if p.i < len(p.b) && (p.b[p.i] == '+' || p.b[p.i] == '-') {
			p.i++
		}
		if !p.someDigits() {
			return p.wrong(Syntax, "a digit")
		}
	}
	f, err := strconv.ParseFloat(string(p.b[start:p.i]), 64)
	if err != nil { // the grammar is checked: only the range is left
		return &Error{Problem: BadType, Expected: "a finite 64 bit float"}
	}
	p.out.dst = binary.BigEndian.AppendUint64(append(p.out.dst, 0xcb), math.Float64bits(f))
	return nil
}

func (p *jsonReader) someDigits() bool {
	first := p.i
	for p.i < len(p.b) && p.b[p.i]-'0' <= 9 {
		p.i++
	}
	return p.i > first
}
