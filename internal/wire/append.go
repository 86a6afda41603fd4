package wire

import (
	"encoding/binary"
	"math"
)

// AppendNil appends nil.
func AppendNil(dst []byte) []byte { return append(dst, 0xc0) }

// AppendBool appends a bool.
func AppendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 0xc3)
	}
	return append(dst, 0xc2)
}

// AppendInt appends an integer in its shortest form.
func AppendInt(dst []byte, v int64) []byte {
	switch {
	case v >= 0:
		return AppendUint(dst, uint64(v))
	case v >= -32:
		return append(dst, byte(v))
	case v >= math.MinInt8:
		return append(dst, 0xd0, byte(v))
	case v >= math.MinInt16:
		return binary.BigEndian.AppendUint16(append(dst, 0xd1), uint16(v))
	case v >= math.MinInt32:
		return binary.BigEndian.AppendUint32(append(dst, 0xd2), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(dst, 0xd3), uint64(v))
}

// AppendUint appends an integer in its shortest form.
func AppendUint(dst []byte, v uint64) []byte {
	switch {
	case v < 0x80:
		return append(dst, byte(v))
	case v <= math.MaxUint8:
		return append(dst, 0xcc, byte(v))
	case v <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, 0xcd), uint16(v))
	case v <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, 0xce), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(dst, 0xcf), v)
}

// oneNaN is the only spelling of NaN in canonical form, whatever payload bits it had.
const oneNaN = 0x7ff8000000000000

// AppendFloat appends a 64 bit float. Every NaN is written alike.
func AppendFloat(dst []byte, v float64) []byte {
	bits := math.Float64bits(v)
	if v != v {
		bits = oneNaN
	}
	return binary.BigEndian.AppendUint64(append(dst, 0xcb), bits)
}

// AppendStr appends a str. That v is valid UTF-8 is the caller's promise; what does not keep it is refused by [Check].
func AppendStr(dst []byte, v string) []byte {
	return append(appendStrHead(dst, len(v)), v...)
}

// AppendBin appends a bin, also for a nil slice.
func AppendBin(dst, v []byte) []byte {
	n := len(v)
	switch {
	case n <= math.MaxUint8:
		dst = append(dst, 0xc4, byte(n))
	case n <= math.MaxUint16:
		dst = binary.BigEndian.AppendUint16(append(dst, 0xc5), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint32(append(dst, 0xc6), uint32(n))
	}
	return append(dst, v...)
}

// AppendArray appends the head of an array of n values; the caller appends the values.
func AppendArray(dst []byte, n int) []byte { return appendHead(dst, n, 0x90, 0xdc) }

// AppendMap appends the head of a map of n entries; the caller appends key, value, key, value. Canonical form requests
// keys sorted by their bytes.
func AppendMap(dst []byte, n int) []byte { return appendHead(dst, n, 0x80, 0xde) }

// appendHead appends the head of an array or a map: fix is the code of the empty one, code the one with 16 bits.
func appendHead(dst []byte, n int, fix, code byte) []byte {
	switch {
	case n < 16:
		return append(dst, fix|byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, code), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, code+1), uint32(n))
}

func appendStrHead(dst []byte, n int) []byte {
	switch {
	case n < 32:
		return append(dst, 0xa0|byte(n))
	case n <= math.MaxUint8:
		return append(dst, 0xd9, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, 0xda), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, 0xdb), uint32(n))
}

// strHeadSize is the length of what appendStrHead appends.
func strHeadSize(n int) int {
	switch {
	case n < 32:
		return 1
	case n <= math.MaxUint8:
		return 2
	case n <= math.MaxUint16:
		return 3
	}
	return 5
}
