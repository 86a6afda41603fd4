package wire

import (
	"bytes"
	"encoding"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// Raw is a whole MessagePack value inside of a Go value: [Encode] checks and copies it, [Decode] leaves it undecoded.
type Raw = msgpack.RawMessage

// Encode returns the canonical form of a Go value. It takes nil, booleans, numbers, strings, []byte (a bin), slices,
// arrays, maps with string keys, [Raw] and structs with msgpack tags. It also takes pointers to these, types that
// marshal themselves by a method of msgpack, and errors in a field of that type (their text). An int stays an int and
// a float a float. Anything else is an [*Error] with its path: types that marshal themselves to text or bytes (of a
// time.Time write the text in RFC 3339), other keys, invalid UTF-8, functions, channels and complex numbers. So is a
// value deeper than [Pass] allows, which includes cyclic ones. v must not change meanwhile.
func Encode(v any) ([]byte, error) {
	w := goWalker{nodes: Pass.Nodes}
	if err := w.value(reflect.ValueOf(v), 0, 0); err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	enc := msgpack.GetEncoder()
	defer msgpack.PutEncoder(enc)
	enc.Reset(&buf)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("wire: encode %T: %w", v, err)
	}
	return Canonical(buf.Bytes(), Pass)
}

// hopsMax bounds the pointers and interfaces in a row or around a value, which add no depth to what is written.
const hopsMax = 4 * 64

// goWalker walks a Go value before the encoder does, which has no bounds: a cyclic value would overflow its stack,
// and that ends the process.
type goWalker struct{ nodes int }

var (
	timeType  = reflect.TypeFor[time.Time]()
	errorType = reflect.TypeFor[error]()
	rawType   = reflect.TypeFor[Raw]()

	// ownEncoders are what the encoder calls instead of looking inside. Their output is checked with the rest.
	ownEncoders = []reflect.Type{reflect.TypeFor[msgpack.CustomEncoder](), reflect.TypeFor[msgpack.Marshaler]()}
	// textual is what the encoder would write as a bin, which is not what anyone means by it.
	textual = []reflect.Type{reflect.TypeFor[encoding.BinaryMarshaler](), reflect.TypeFor[encoding.TextMarshaler]()}
)

// hasMethod reports whether t or a pointer to it implements one of the interfaces. Pointers need not be checked: the
// walk follows them first.
func hasMethod(t reflect.Type, interfaces []reflect.Type) bool {
	if t.PkgPath() == "" && t.Kind() != reflect.Struct {
		return false // only defined types and structs can have methods
	}
	for _, m := range interfaces {
		if t.Implements(m) || reflect.PointerTo(t).Implements(m) {
			return true
		}
	}
	return false
}

// value walks v, inside of depth containers and behind hops pointers and interfaces.
func (w *goWalker) value(v reflect.Value, depth, hops int) *Error {
	for v.IsValid() && (v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface) && v.Type() != errorType {
		if hops++; hops > hopsMax {
			return tooDeep(Pass.Depth)
		}
		v = v.Elem()
	}
	if w.nodes--; w.nodes < 0 {
		return tooLarge(Pass.Nodes)
	}
	if !v.IsValid() {
		return nil
	}
	switch t := v.Type(); {
	case t == timeType:
		return &Error{Problem: BadType, Expected: "a time as text (RFC 3339), not time.Time"}
	case t == rawType:
		return checkRaw(v.Bytes())
	case t == errorType || hasMethod(t, ownEncoders):
		return nil
	case hasMethod(t, textual):
		return &Error{Problem: BadType, Expected: "text or bytes, not " + t.String()}
	}
	return w.inside(v, depth, hops)
}

// inside walks what a value without a marshal method is made of.
func (w *goWalker) inside(v reflect.Value, depth, hops int) *Error {
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		if v.IsNil() {
			return nil
		}
	}
	switch v.Kind() {
	case reflect.Slice, reflect.Array, reflect.Map, reflect.Struct:
		if depth >= Pass.Depth {
			return tooDeep(Pass.Depth)
		}
	case reflect.Complex64, reflect.Complex128, reflect.Chan, reflect.Func, reflect.Uintptr, reflect.UnsafePointer:
		return &Error{Problem: BadType, Expected: "a value that can be written, not " + v.Type().String()}
	}
	switch v.Kind() {
	case reflect.Slice, reflect.Array:
		return w.list(v, depth+1, hops)
	case reflect.Map:
		return w.mapping(v, depth+1, hops)
	case reflect.Struct:
		return w.fields(v, depth+1, hops)
	}
	return nil
}

// checkRaw keeps a malformed value from swallowing what stands behind it.
func checkRaw(b []byte) *Error {
	if len(b) == 0 {
		return &Error{Problem: Truncated, Expected: "one MessagePack value in a Raw"}
	}
	return check(b, Pass)
}

func (w *goWalker) list(v reflect.Value, depth, hops int) *Error {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		return nil // a bin
	}
	for i := range v.Len() {
		if err := w.value(v.Index(i), depth, hops); err != nil {
			return err.inIndex(i)
		}
	}
	return nil
}

func (w *goWalker) mapping(v reflect.Value, depth, hops int) *Error {
	if v.Type().Key().Kind() != reflect.String {
		return &Error{Problem: BadType, Expected: "a map with string keys, not " + v.Type().String()}
	}
	for it := v.MapRange(); it.Next(); {
		if w.nodes--; w.nodes < 0 {
			return tooLarge(Pass.Nodes)
		}
		if err := w.value(it.Value(), depth, hops); err != nil {
			return err.inKey([]byte(it.Key().String()))
		}
	}
	return nil
}

// fields walks the fields that the encoder writes. What is embedded adds no depth: its fields become the struct's own.
func (w *goWalker) fields(v reflect.Value, depth, hops int) *Error {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("msgpack"), ",")
		if name == "-" || !f.IsExported() && !f.Anonymous {
			continue
		}
		if f.Type == rawType && v.Field(i).Len() == 0 && strings.Contains(options, "omitempty") {
			continue
		}
		if name == "" {
			name = f.Name
		}
		inner := depth
		if f.Anonymous {
			inner--
		}
		if err := w.value(v.Field(i), inner, hops); err != nil {
			return err.inKey([]byte(name))
		}
	}
	return nil
}
