package frame

import (
	"fmt"
	"math"

	"github.com/dspex/dspex/internal/wire"
)

// fields reads the positional fields of a body. After the first error it returns zero values; end returns the error.
type fields struct {
	t    Type
	r    wire.Reader
	left int // fields that the body still has; missing ones are nil
	at   int // number of the field that is read, from 0
	name string
	err  error
}

// open checks a whole body. Nothing is decoded before.
func open(t Type, body []byte) fields {
	f := fields{t: t, r: *wire.NewReader(body)}
	if err := wire.Check(body, wire.Pass); err != nil {
		f.err = &ProtocolError{Reason: fmt.Sprintf("body of %s", t), Err: err}
		return f
	}
	n, err := f.r.Array()
	if err != nil {
		f.err = &ProtocolError{Reason: fmt.Sprintf("body of %s", t), Err: err}
		return f
	}
	f.left = n
	return f
}

// next begins a field and reports whether a value is there that is not nil.
func (f *fields) next(name string) bool {
	if f.err != nil {
		return false
	}
	f.name = name
	f.at++
	if f.left == 0 {
		return false
	}
	f.left--
	return !f.r.Nil()
}

func (f *fields) fail(err error) {
	if f.err == nil && err != nil {
		f.err = &ProtocolError{Reason: fmt.Sprintf("%s, field %d (%s)", f.t, f.at, f.name), Err: err}
	}
}

func (f *fields) missing(kind string) {
	f.fail(&wire.Error{Problem: wire.BadType, Expected: kind + ", not nil"})
}

// end returns the error. Unknown fields are left unread: a later version may have them.
func (f *fields) end() error { return f.err }

func (f *fields) str(name string) string {
	if !f.next(name) {
		f.missing("a str")
		return ""
	}
	return f.readStr()
}

// optStr reads a str or nil, which is the empty string.
func (f *fields) optStr(name string) string {
	if !f.next(name) {
		return ""
	}
	return f.readStr()
}

func (f *fields) readStr() string {
	s, err := f.r.Str()
	f.fail(err)
	return s
}

// optUint reads an unsigned integer or nil, which is 0.
func (f *fields) optUint(name string) uint64 {
	if !f.next(name) {
		return 0
	}
	v, err := f.r.Uint()
	f.fail(err)
	return v
}

func (f *fields) uint(name string) uint64 {
	if !f.next(name) {
		f.missing("an int")
		return 0
	}
	u, err := f.r.Uint()
	f.fail(err)
	return u
}

func (f *fields) uint32(name string) uint32 {
	u := f.uint(name)
	if u > math.MaxUint32 {
		f.fail(&wire.Error{Problem: wire.BadType, Expected: "an int below 2^32"})
		return 0
	}
	return uint32(u)
}

// bin reads a bin or nil.
func (f *fields) bin(name string) []byte {
	if !f.next(name) {
		return nil
	}
	b, err := f.r.Bin()
	f.fail(err)
	return b
}

// mapping reads a map as raw bytes.
func (f *fields) mapping(name string) []byte {
	if !f.next(name) {
		f.missing("a map")
		return nil
	}
	if k := f.r.Kind(); k != wire.Map {
		f.fail(&wire.Error{Problem: wire.BadType, Expected: "a map, not " + k.String()})
		return nil
	}
	b, err := f.r.Raw()
	f.fail(err)
	return b
}

// optMapping reads a map as raw bytes, or nil.
func (f *fields) optMapping(name string) []byte {
	if !f.next(name) {
		return nil
	}
	if k := f.r.Kind(); k != wire.Map {
		f.fail(&wire.Error{Problem: wire.BadType, Expected: "a map or nil, not " + k.String()})
		return nil
	}
	b, err := f.r.Raw()
	f.fail(err)
	return b
}

// value reads anything as raw bytes; what is missing is nil.
func (f *fields) value(name string) []byte {
	if !f.next(name) {
		return rawNil
	}
	b, err := f.r.Raw()
	f.fail(err)
	return b
}

func (f *fields) strs(name string) []string {
	if !f.next(name) {
		f.missing("an array")
		return nil
	}
	n, err := f.r.Array()
	f.fail(err)
	var list []string
	for range n {
		list = append(list, f.readStr())
	}
	return list
}

var (
	rawNil   = []byte{0xc0}
	emptyMap = []byte{0x80}
)

func appendOptStr(dst []byte, s string) []byte {
	if s == "" {
		return wire.AppendNil(dst)
	}
	return wire.AppendStr(dst, s)
}

func appendOptBin(dst, b []byte) []byte {
	if b == nil {
		return wire.AppendNil(dst)
	}
	return wire.AppendBin(dst, b)
}

func appendStrs(dst []byte, list []string) []byte {
	dst = wire.AppendArray(dst, len(list))
	for _, s := range list {
		dst = wire.AppendStr(dst, s)
	}
	return dst
}

// appendRaw appends a value in MessagePack, otherwise if there is none.
func appendRaw(dst, raw, otherwise []byte) []byte {
	if len(raw) == 0 {
		raw = otherwise
	}
	return append(dst, raw...)
}

// Bodies of one field.

func appendOneStr(dst []byte, s string) []byte { return wire.AppendStr(wire.AppendArray(dst, 1), s) }

func appendOneUint(dst []byte, u uint64) []byte { return wire.AppendUint(wire.AppendArray(dst, 1), u) }

func parseOneStr(t Type, body []byte, name string) (string, error) {
	f := open(t, body)
	s := f.str(name)
	return s, f.end()
}

func parseOneUint(t Type, body []byte, name string) (uint64, error) {
	f := open(t, body)
	u := f.uint(name)
	return u, f.end()
}
