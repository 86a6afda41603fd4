package wire

import (
	"encoding/binary"
	"math"
)

// token is the head of one MessagePack value. It has four fields because the compiler keeps no larger struct in
// registers, and reading heads is most of the work here.
type token struct {
	kind Kind
	neg  bool // an integer below zero
	// bits is an integer in two's complement, the bits of a float64, 1 for true, the bytes of a str or bin, the
	// entries of an array or map.
	bits uint64
	next int // offset behind the head, where the contents begin
}

// n is the size of a str, bin, array or map.
func (t token) n() int { return int(t.bits) }

// end is the offset behind a value that is no array or map.
func (t token) end() int {
	if t.kind == Str || t.kind == Bin {
		return t.next + int(t.bits)
	}
	return t.next
}

// scan reads the head at b[i:]. A kind other than End and Invalid promises that the contents of a str or bin are all there. It also
// promises that b has a byte for each entry of an array and two for each entry of a map.
func scan(b []byte, i int) token {
	if i >= len(b) {
		return token{}
	}
	c := b[i]
	i++
	switch {
	case c < 0x80:
		return token{kind: Int, bits: uint64(c), next: i}
	case c < 0x90:
		return room(b, token{kind: Map, bits: uint64(c & 0x0f), next: i})
	case c < 0xa0:
		return room(b, token{kind: Array, bits: uint64(c & 0x0f), next: i})
	case c < 0xc0:
		return room(b, token{kind: Str, bits: uint64(c & 0x1f), next: i})
	case c >= 0xe0:
		return token{kind: Int, neg: true, bits: uint64(int64(int8(c))), next: i}
	}
	return scanLong(b, i, c)
}

// longForms gives, for the codes 0xc0 to 0xdf, the kind and the bytes that follow the code in the head.
var longForms = [32]struct {
	kind Kind
	size uint8
}{
	0x00: {Nil, 0},
	0x01: {Invalid, 0},
	0x02: {Bool, 0}, 0x03: {Bool, 0},
	0x04: {Bin, 1}, 0x05: {Bin, 2}, 0x06: {Bin, 4},
	0x07: {Invalid, 0}, 0x08: {Invalid, 0}, 0x09: {Invalid, 0},
	0x0a: {Float, 4}, 0x0b: {Float, 8},
	0x0c: {Int, 1}, 0x0d: {Int, 2}, 0x0e: {Int, 4}, 0x0f: {Int, 8},
	0x10: {Int, 1}, 0x11: {Int, 2}, 0x12: {Int, 4}, 0x13: {Int, 8},
	0x14: {Invalid, 0}, 0x15: {Invalid, 0}, 0x16: {Invalid, 0}, 0x17: {Invalid, 0}, 0x18: {Invalid, 0},
	0x19: {Str, 1}, 0x1a: {Str, 2}, 0x1b: {Str, 4},
	0x1c: {Array, 2}, 0x1d: {Array, 4},
	0x1e: {Map, 2}, 0x1f: {Map, 4},
}

// scanLong reads the heads that begin with 0xc0 to 0xdf; i is behind the code c.
func scanLong(b []byte, i int, c byte) token {
	form := longForms[c&0x1f]
	size := int(form.size)
	if len(b)-i < size {
		return token{}
	}
	t := token{kind: form.kind, bits: bigEndian(b[i:], size), next: i + size}
	switch form.kind {
	case Bool:
		t.bits = uint64(c & 1) // false is 0xc2, true 0xc3
	case Int:
		if c >= 0xd0 {
			shift := 64 - 8*size
			v := int64(t.bits<<shift) >> shift
			t.bits, t.neg = uint64(v), v < 0
		}
	case Float:
		if size == 4 {
			t.bits = math.Float64bits(float64(math.Float32frombits(uint32(t.bits))))
		}
	case Str, Bin, Array, Map:
		return room(b, t)
	}
	return t
}

// bigEndian returns the number in the first size bytes of b.
func bigEndian(b []byte, size int) uint64 {
	if len(b) >= 8 {
		return binary.BigEndian.Uint64(b) >> (64 - 8*size) // a shift by 64 is 0
	}
	var x uint64
	for _, c := range b[:size] {
		x = x<<8 | uint64(c)
	}
	return x
}

// room returns t, or End if what t promises is more than b has.
func room(b []byte, t token) token {
	need := t.bits // of at most 32 bits
	if t.kind == Map {
		need *= 2
	}
	if need > uint64(len(b)-t.next) {
		return token{}
	}
	return t
}

// scalarSizes gives, for the code of a nil, bool or number, the bytes of the whole value; 0 for other codes.
var scalarSizes = func() (sizes [256]uint8) {
	for c := range sizes {
		switch {
		case c < 0x80 || c >= 0xe0:
			sizes[c] = 1
		case c >= 0xc0:
			if form := longForms[c&0x1f]; form.kind >= Nil && form.kind <= Float {
				sizes[c] = 1 + form.size
			}
		}
	}
	return sizes
}()
