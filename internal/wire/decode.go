package wire

import (
	"bytes"
	"fmt"
	"math"

	"github.com/vmihailenco/msgpack/v5"
)

// Decode checks b, at most 131,072 nodes, and stores it in what v points to.
//
// A *any or *map[string]any gets nil, bool, int64 (uint64 above 2^63-1), float64, string, []byte, []any and
// map[string]any. A pointer to anything else is filled by vmihailenco/msgpack, which matches struct fields by their
// msgpack tag and ignores unknown keys. Inside of it, a field of type any gets a bin as a string and larger ints as
// uint64: give a field its type, or make it a [Raw]. Nothing that is stored refers to b.
func Decode(b []byte, v any) error {
	if err := Check(b, decoding); err != nil {
		return err
	}
	r := goReader{b: b}
	switch v := v.(type) {
	case *any:
		*v = r.value()
		return nil
	case *map[string]any:
		switch m := r.value().(type) {
		case nil:
			*v = nil
		case map[string]any:
			*v = m
		default:
			return unexpected(scan(b, 0).kind, "a map")
		}
		return nil
	}
	dec := msgpack.GetDecoder()
	defer msgpack.PutDecoder(dec)
	dec.Reset(bytes.NewReader(b))
	dec.UseLooseInterfaceDecoding(true)
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("wire: decode into %T: %w", v, err)
	}
	return nil
}

// goReader turns checked bytes into Go values.
type goReader struct {
	b []byte
	i int
}

func (r *goReader) value() any {
	t := scan(r.b, r.i)
	r.i = t.next
	switch t.kind {
	case Bool:
		return t.bits == 1
	case Int:
		if !t.neg && t.bits > math.MaxInt64 {
			return t.bits
		}
		return int64(t.bits)
	case Float:
		return math.Float64frombits(t.bits)
	case Str:
		return string(r.contents(t.n()))
	case Bin:
		return bytes.Clone(r.contents(t.n()))
	case Array:
		list := make([]any, t.n())
		for i := range list {
			list[i] = r.value()
		}
		return list
	case Map:
		m := make(map[string]any, t.n())
		for range t.n() {
			key := scan(r.b, r.i)
			r.i = key.next
			name := string(r.contents(key.n()))
			m[name] = r.value()
		}
		return m
	}
	return nil
}

func (r *goReader) contents(n int) []byte {
	r.i += n
	return r.b[r.i-n : r.i]
}
