package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

// addVectors makes all vectors seeds: those with JSON or those with MessagePack.
func addVectors(f *testing.F, asJSON bool) {
	for _, v := range readVectors(f) {
		if text, ok := v.json(f); ok && asJSON {
			f.Add(text)
		}
		if v.Msgpack != nil && !asJSON {
			f.Add(unhex(f, *v.Msgpack))
		}
	}
}

// FuzzFromJSON compares with encoding/json: what it reads we read alike, or refuse for a rule that it does not have.
func FuzzFromJSON(f *testing.F) {
	addVectors(f, true)
	f.Fuzz(func(t *testing.T, text []byte) {
		out, err := FromJSON(text, Request)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%T", err)
			}
			notJSON := e.Problem == Syntax || e.Problem == Truncated || e.Problem == Trailing
			if notJSON && json.Valid(text) {
				t.Fatalf("%q refused: %v", text, err)
			}
			return
		}
		want, err := Encode(readLikeEncodingJSON(t, text))
		if err != nil || !bytes.Equal(out, want) {
			t.Fatalf("%q: %x; want %x, %v", text, out, want, err)
		}
		mustBeCanonical(t, out)
		back, err := AppendJSON([]byte("x"), out)
		if err != nil || back[0] != 'x' {
			t.Fatalf("AppendJSON of %x: %v", out, err)
		}
		again, err := FromJSON(back[1:], Request)
		if err != nil || !bytes.Equal(again, out) {
			t.Fatalf("%q became %q, %v", text, back, err)
		}
	})
}

func readLikeEncodingJSON(t *testing.T, text []byte) any {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%q accepted, but: %v", text, err)
	}
	return withNumbers(t, v)
}

func withNumbers(t *testing.T, v any) any {
	switch v := v.(type) {
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			f, err := v.Float64()
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
		if i, err := v.Int64(); err == nil {
			return i
		}
		var u uint64
		if err := json.Unmarshal([]byte(v), &u); err != nil {
			t.Fatal(err)
		}
		return u
	case []any:
		for i := range v {
			v[i] = withNumbers(t, v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = withNumbers(t, v[k])
		}
	}
	return v
}

func mustBeCanonical(t *testing.T, b []byte) {
	t.Helper()
	again, err := Canonical(b, Request)
	if err != nil || !bytes.Equal(again, b) {
		t.Fatalf("%x is not canonical: %x, %v", b, again, err)
	}
}

// FuzzCanonical demands that the canonical form means the same: both forms decode alike.
func FuzzCanonical(f *testing.F) {
	addVectors(f, false)
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		checked := Check(b, Request)
		out, err := Canonical(b, Request)
		if (checked == nil) != (err == nil) {
			t.Fatalf("Check %v, Canonical %v", checked, err)
		}
		if !bytes.Equal(b, before) {
			t.Fatal("the input was changed")
		}
		if err != nil {
			return
		}
		mustBeCanonical(t, out)
		var v any
		if err := Decode(b, &v); err != nil {
			t.Fatal(err)
		}
		if again, err := Encode(v); err != nil || !bytes.Equal(again, out) {
			t.Fatalf("%x decodes to %x, %v; want %x", b, again, err, out)
		}
		if text, err := AppendJSON(nil, b); err == nil && !json.Valid(text) {
			t.Fatalf("%x as JSON: %q", b, text)
		} else if err != nil {
			t.Fatalf("%x as JSON: %v", b, err)
		}
	})
}

// FuzzCheck demands that vmihailenco/msgpack, which must never see anything else, decodes all that Check accepts.
func FuzzCheck(f *testing.F) {
	addVectors(f, false)
	f.Fuzz(func(t *testing.T, b []byte) {
		err := Check(b, Request)
		r := NewReader(b)
		skipped := r.Skip()
		if err != nil {
			return
		}
		if skipped != nil || len(r.Rest()) > 0 {
			t.Fatalf("the reader skipped %x: %v, rest %x", b, skipped, r.Rest())
		}
		in := bytes.NewReader(b)
		dec := msgpack.NewDecoder(in)
		if _, err := dec.DecodeInterface(); err != nil || in.Len() > 0 {
			t.Fatalf("vmihailenco on %x: %v, %d bytes left", b, err, in.Len())
		}
	})
}

// FuzzReader demands that no order of reads panics or leaves the bytes, checked or not.
func FuzzReader(f *testing.F) {
	f.Add([]byte("\x92\x01\xa1a"), []byte{0, 2, 5})
	f.Add([]byte("\xdf\xff\xff\xff\xff"), []byte{8})
	f.Fuzz(func(t *testing.T, b, order []byte) {
		r := NewReader(b)
		for _, op := range order[:min(len(order), 64)] { // a failed Skip walks all of b each time
			before := len(r.Rest())
			if err := readAny(r, op); err != nil && len(r.Rest()) != before {
				t.Fatalf("read %d failed and moved", op%11)
			}
			if len(r.Rest()) > before {
				t.Fatal("moved back")
			}
		}
	})
}

func readAny(r *Reader, op byte) (err error) {
	switch op % 11 {
	case 0:
		_, err = r.Array()
	case 1:
		_, err = r.Map()
	case 2:
		_, err = r.Int()
	case 3:
		_, err = r.Uint()
	case 4:
		_, err = r.Float()
	case 5:
		_, err = r.Str()
	case 6:
		_, err = r.Bin()
	case 7:
		_, err = r.Bool()
	case 8:
		_, err = r.Raw()
	case 9:
		err = r.Skip()
	case 10:
		r.Nil()
	}
	return err
}
