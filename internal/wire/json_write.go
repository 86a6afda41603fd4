package wire

import (
	"encoding/base64"
	"math"
	"slices"
	"strconv"
)

// AppendJSON appends b, a MessagePack value that it checks with [Pass], as JSON. Map keys keep their order, a bin
// becomes base64 text (standard alphabet, padded), a float always has a fraction or an exponent so that it stays one.
// NaN and infinity become "NaN", "Infinity" and "-Infinity". On error the result is dst.
func AppendJSON(dst, b []byte) ([]byte, error) {
	if err := Check(b, Pass); err != nil {
		return dst, err
	}
	w := jsonWriter{b: b, dst: slices.Grow(dst, len(b)+len(b)/2)}
	if _, err := w.value(0); err != nil {
		return dst, err
	}
	return w.dst, nil
}

// jsonWriter writes a checked value.
type jsonWriter struct {
	b   []byte
	dst []byte
}

// value writes the value at offset i and returns the offset behind it.
func (w *jsonWriter) value(i int) (int, *Error) {
	t := scan(w.b, i)
	switch t.kind {
	case Nil:
		w.dst = append(w.dst, "null"...)
	case Bool:
		w.dst = strconv.AppendBool(w.dst, t.bits == 1)
	case Int:
		if t.neg {
			w.dst = strconv.AppendInt(w.dst, int64(t.bits), 10)
		} else {
			w.dst = strconv.AppendUint(w.dst, t.bits, 10)
		}
	case Float:
		w.float(math.Float64frombits(t.bits))
		return t.next, nil
	case Str:
		w.text(w.b[t.next:t.end()])
	case Bin:
		w.dst = append(w.dst, '"')
		w.dst = base64.StdEncoding.AppendEncode(w.dst, w.b[t.next:t.end()])
		w.dst = append(w.dst, '"')
	case Array:
		return w.array(t)
	case Map:
		return w.object(t)
	}
	return t.end(), nil
}

func (w *jsonWriter) array(t token) (int, *Error) {
	at := t.next
	w.dst = append(w.dst, '[')
	for k := range t.n() {
		if k > 0 {
			w.dst = append(w.dst, ',')
		}
		next, err := w.value(at)
		if err != nil {
			return 0, err.inIndex(k)
		}
		at = next
	}
	w.dst = append(w.dst, ']')
	return at, nil
}

func (w *jsonWriter) object(t token) (int, *Error) {
	at := t.next
	w.dst = append(w.dst, '{')
	for k := range t.n() {
		if k > 0 {
			w.dst = append(w.dst, ',')
		}
		key := scan(w.b, at)
		text := w.b[key.next : key.next+key.n()]
		w.text(text)
		w.dst = append(w.dst, ':')
		next, err := w.value(key.next + key.n())
		if err != nil {
			return 0, err.inKey(text)
		}
		at = next
	}
	w.dst = append(w.dst, '}')
	return at, nil
}

// float writes the shortest text that reads back as f: digits where they are few, an exponent elsewhere. JSON has no NaN and no
// infinity: they are texts.
func (w *jsonWriter) float(f float64) {
	switch {
	case math.IsNaN(f):
		w.dst = append(w.dst, `"NaN"`...)
		return
	case math.IsInf(f, 0):
		w.dst = strconv.AppendQuote(w.dst, map[bool]string{true: "Infinity", false: "-Infinity"}[f > 0])
		return
	}
	if size := math.Abs(f); size != 0 && (size < 1e-6 || size >= 1e16) {
		w.dst = strconv.AppendFloat(w.dst, f, 'e', -1, 64)
		return
	}
	w.dst = strconv.AppendFloat(w.dst, f, 'f', -1, 64)
	if f == math.Trunc(f) {
		w.dst = append(w.dst, ".0"...)
	}
}

// text writes a string; only what JSON requests is escaped.
func (w *jsonWriter) text(s []byte) {
	w.dst = append(w.dst, '"')
	for i := 0; ; i++ {
		end, _ := textRun(s, i)
		w.dst = append(w.dst, s[i:end]...)
		if end == len(s) {
			break
		}
		w.dst = appendEscape(w.dst, s[end])
		i = end
	}
	w.dst = append(w.dst, '"')
}

func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	const digits = "0123456789abcdef"
	return append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
}
