package wire

import (
	"bytes"
	"errors"
	"math"
	"testing"
)

func TestReaderReadsWhatTheAppendersWrote(t *testing.T) {
	b := AppendArray(nil, 11)
	b = AppendNil(b)
	b = AppendBool(b, true)
	b = AppendInt(b, math.MinInt64)
	b = AppendUint(b, math.MaxUint64)
	b = AppendFloat(b, 1.5)
	b = AppendInt(b, -3)
	b = AppendStr(b, "text")
	b = AppendBin(b, []byte{1, 2})
	b = AppendInt(AppendStr(AppendMap(b, 1), "k"), 1)
	b = AppendArray(b, 0)
	b = AppendBool(b, false)
	if err := Check(b, Request); err != nil {
		t.Fatal(err)
	}
	r := NewReader(b)
	n, err := r.Array()
	equal(t, n, 11, err)
	equal(t, r.Nil(), true, nil)
	equal(t, r.Nil(), false, nil)
	yes, err := r.Bool()
	equal(t, yes, true, err)
	i, err := r.Int()
	equal(t, i, math.MinInt64, err)
	u, err := r.Uint()
	equal(t, u, math.MaxUint64, err)
	f, err := r.Float()
	equal(t, f, 1.5, err)
	f, err = r.Float()
	equal(t, f, -3, err)
	s, err := r.Str()
	equal(t, s, "text", err)
	raw, err := r.Bin()
	equal(t, string(raw), "\x01\x02", err)
	equal(t, r.Kind(), Map, nil)
	raw, err = r.Raw()
	equal(t, string(raw), "\x81\xa1k\x01", err)
	equal(t, r.Kind(), Array, nil)
	equal(t, len(r.Rest()), 2, nil)
	equal(t, r.Skip(), nil, nil)
	equal(t, string(r.Rest()), "\xc2", nil)
	yes, err = r.Bool()
	equal(t, yes, false, err)
	equal(t, r.Kind(), End, nil)
}

func equal[T comparable](t *testing.T, got, want T, err error) {
	t.Helper()
	if err != nil || got != want {
		t.Fatalf("got %v, %v; want %v", got, err, want)
	}
}

func TestReaderErrorsLeaveThePosition(t *testing.T) {
	reads := map[string]func(*Reader) error{
		"Bool":  func(r *Reader) error { _, err := r.Bool(); return err },
		"Int":   func(r *Reader) error { _, err := r.Int(); return err },
		"Uint":  func(r *Reader) error { _, err := r.Uint(); return err },
		"Float": func(r *Reader) error { _, err := r.Float(); return err },
		"Str":   func(r *Reader) error { _, err := r.Str(); return err },
		"Bin":   func(r *Reader) error { _, err := r.Bin(); return err },
		"Array": func(r *Reader) error { _, err := r.Array(); return err },
		"Map":   func(r *Reader) error { _, err := r.Map(); return err },
		"Raw":   func(r *Reader) error { _, err := r.Raw(); return err },
		"Skip":  func(r *Reader) error { return r.Skip() },
	}
	bad := map[string][]string{
		"Bool":  {"", "\x01", "\xa0"},
		"Int":   {"", "\xc0", "\xcf\x80\x00\x00\x00\x00\x00\x00\x00", "\xcd\x01", "\xcb\x00\x00\x00\x00\x00\x00\x00\x00"},
		"Uint":  {"", "\xff", "\xd0\x80", "\xc0"},
		"Float": {"", "\xc0", "\xcb\x00", "\xcc"},
		"Str":   {"", "\xa2a", "\xc4\x00", "\xdb\xff\xff\xff\xff"},
		"Bin":   {"", "\xa0", "\xc6\xff\xff\xff\xff"},
		"Array": {"", "\x80", "\x91", "\xdd\xff\xff\xff\xff"},
		"Map":   {"", "\x90", "\x81\xa0", "\xdf\xff\xff\xff\xff"},
		"Raw":   {"", "\xc1", "\x92\x01\xc1", "\x92\x91\x01\xa1"},
		"Skip":  {"", "\xd4\x00\x00", "\x81\xa0\x91\xcc"},
	}
	for name, read := range reads {
		for _, in := range bad[name] {
			r := NewReader([]byte(in))
			var e *Error
			if err := read(r); !errors.As(err, &e) {
				t.Errorf("%s of %x = %v, want an *Error", name, in, err)
			}
			if string(r.Rest()) != in {
				t.Errorf("%s of %x moved to %x", name, in, r.Rest())
			}
		}
	}
}

func TestReaderSkipsAnyDepthWithoutMemory(t *testing.T) {
	deep := append(bytes.Repeat([]byte{0x91}, 4<<20), 0xc0)
	allocs := testing.AllocsPerRun(1, func() {
		if err := NewReader(deep).Skip(); err != nil {
			t.Error(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func TestKindsHaveNames(t *testing.T) {
	for k := End; k <= Map; k++ {
		if k.String() == "" || k.String() == "unknown" {
			t.Errorf("kind %d has no name", k)
		}
	}
	if (Map + 1).String() != "unknown" {
		t.Error("a kind too many")
	}
}
