package wire

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

type inner struct {
	N    int               `msgpack:"n"`
	Tags map[string]string `msgpack:"tags,omitempty"`
}

type outer struct {
	inner
	Name  string  `msgpack:"name"`
	Ptr   *inner  `msgpack:"ptr"`
	Raw   Raw     `msgpack:"raw,omitempty"`
	List  []inner `msgpack:"list,omitempty"`
	Skip  func()  `msgpack:"-"`
	Alone *outer  `msgpack:"alone,omitempty"`
}

type ring struct{ Next *ring }

type chain *chain

type word string

type upper string

func (u upper) MarshalText() ([]byte, error) { return []byte(strings.ToUpper(string(u))), nil }

type twice int

func (v twice) EncodeMsgpack(enc *msgpack.Encoder) error { return enc.Encode([]int{int(v), int(v)}) }

func TestEncodeWritesCanonicalForm(t *testing.T) {
	var none *int
	seven := 7
	for name, c := range map[string]struct {
		v    any
		json string
	}{
		"nil":           {nil, `null`},
		"nil pointer":   {none, `null`},
		"nil map":       {map[string]any(nil), `null`},
		"pointer":       {&seven, `7`},
		"ints":          {[]any{int8(-1), uint16(300), int64(math.MinInt64), uint64(math.MaxUint64), 5}, `[-1,300,-9223372036854775808,18446744073709551615,5]`},
		"floats":        {[]float32{1.5, 2}, `[1.5,2.0]`},
		"bytes":         {[]byte{0, 255}, `"AP8="`},
		"byte array":    {[2]byte{0, 255}, `"AP8="`},
		"sorted map":    {map[string]any{"b": 1, "a": map[string]int{"z": 1, "y": 2}}, `{"a":{"y":2,"z":1},"b":1}`},
		"named types":   {map[word]word{"a": "b"}, `{"a":"b"}`},
		"struct":        {outer{inner: inner{N: 1}, Name: "x"}, `{"n":1,"name":"x","ptr":null}`},
		"struct inside": {&outer{Ptr: &inner{N: 2, Tags: map[string]string{"k": "v"}}}, `{"n":0,"name":"","ptr":{"n":2,"tags":{"k":"v"}}}`},
		"raw":           {map[string]any{"r": Raw{0x93, 1, 0xd0, 2, 3}}, `{"r":[1,2,3]}`},
		"duration":      {time.Second, `1000000000`},
		"own encoder":   {[]any{twice(1)}, `[[1,1]]`},
		"error":         {struct{ Err error }{errors.New("no")}, `{"Err":"no"}`},
	} {
		b, err := Encode(c.v)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if text, err := AppendJSON(nil, b); err != nil || string(text) != c.json {
			t.Errorf("%s: %s, %v; want %s", name, text, err, c.json)
		}
		if again, _ := Canonical(b, Pass); string(again) != string(b) {
			t.Errorf("%s: %x is not canonical", name, b)
		}
	}
}

func TestEncodeRefusesWhatHasNoForm(t *testing.T) {
	cyclicMap := map[string]any{}
	cyclicMap["a"] = []any{cyclicMap}
	cyclicSlice := make([]any, 1)
	cyclicSlice[0] = cyclicSlice
	cyclicStruct := &ring{}
	cyclicStruct.Next = cyclicStruct
	var cyclicPointer chain
	cyclicPointer = &cyclicPointer
	var cyclicAny any
	cyclicAny = &cyclicAny
	bomb := []any{"x"}
	for range 40 {
		bomb = []any{bomb, bomb}
	}
	for name, c := range map[string]struct {
		v             any
		problem, path string
	}{
		"cyclic map":     {cyclicMap, TooDeep, "*"},
		"cyclic slice":   {cyclicSlice, TooDeep, "*"},
		"cyclic struct":  {cyclicStruct, TooDeep, "*"},
		"cyclic pointer": {cyclicPointer, TooDeep, "*"},
		"cyclic any":     {cyclicAny, TooDeep, ""},
		"doubling":       {bomb, TooLarge, ""},
		"time":           {map[string]any{"at": []any{1, time.Unix(0, 0)}}, BadType, "at[1]"},
		"time pointer":   {&time.Time{}, BadType, ""},
		"marshals text":  {[]any{upper("a")}, BadType, "[0]"},
		"keys as text":   {map[upper]int{"a": 1}, BadType, ""},
		"int keys":       {map[string]any{"m": map[int]string{1: "a"}}, BadType, "m"},
		"any keys":       {map[any]any{"a": 1}, BadType, ""},
		"func":           {struct{ F func() }{}, BadType, "F"},
		"chan":           {make(chan int), BadType, ""},
		"complex":        {[]complex64{1}, BadType, "[0]"},
		"uintptr":        {uintptr(1), BadType, ""},
		"bad text":       {map[string]any{"a": "\xff"}, BadEncoding, "a"},
		"bad key":        {map[string]any{"\xff": 1}, BadEncoding, ""},
		"surrogate":      {"\xed\xa0\x80", BadEncoding, ""},
		"raw extension":  {[]any{Raw{0xd4, 0, 0}}, BadType, "[0]"},
		"raw cut off":    {[]any{Raw{0x92, 1}, 1}, Truncated, "[0]"},
		"raw of two":     {[]any{Raw{1, 2}}, Trailing, "[0]"},
		"raw empty":      {[]any{Raw{}}, Truncated, "[0]"},
	} {
		b, err := Encode(c.v)
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%s: %x, %v; want an *Error", name, b, err)
			continue
		}
		if e.Problem != c.problem {
			t.Errorf("%s: the problem must be %s, got %s", name, c.problem, e.Problem)
		}
		if c.path != "*" && e.Path != c.path {
			t.Errorf("%s: the path must be %q, got %q", name, c.path, e.Path)
		}
	}
}

func TestEncodeCountsWhatIsWritten(t *testing.T) {
	deep := any(1)
	for range Pass.Depth {
		next := deep
		deep = []any{&next}
	}
	if _, err := Encode(deep); err != nil {
		t.Error(err)
	}
	if _, err := Encode([]any{deep}); err == nil {
		t.Error("one level too many was accepted")
	}
	var embedded any = outer{}
	for range Pass.Depth - 1 {
		embedded = []any{embedded}
	}
	if _, err := Encode(embedded); err != nil {
		t.Errorf("an embedded struct counted as a level: %v", err)
	}
	if _, err := Encode(make([]any, Pass.Nodes-1)); err != nil {
		t.Error(err)
	}
	if _, err := Encode(make([]any, Pass.Nodes)); err == nil {
		t.Error("one node too many was accepted")
	}
}

func TestDecodeIntoAny(t *testing.T) {
	b := unhex(t, "86a1610fa162ccc8a163cfffffffffffffffffa164c40201ffa1659101a166ca3fc00000")
	want := map[string]any{
		"a": int64(15), "b": int64(200), "c": uint64(math.MaxUint64), "d": []byte{1, 255}, "e": []any{int64(1)}, "f": 1.5,
	}
	var got any
	if err := Decode(b, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%#v, %v", got, err)
	}
	var m map[string]any
	if err := Decode(b, &m); err != nil || !reflect.DeepEqual(m, want) {
		t.Errorf("%#v, %v", m, err)
	}
	clear(b)
	if !reflect.DeepEqual(got, want) {
		t.Error("the result refers to the input")
	}
	if err := Decode([]byte{0xc0}, &m); err != nil || m != nil {
		t.Errorf("nil: %v, %v", m, err)
	}
	if err := Decode([]byte{0x90}, &m); err == nil {
		t.Error("an array was accepted as a map")
	}
}

func TestDecodeIntoStruct(t *testing.T) {
	in := outer{inner: inner{N: 3}, Name: "x", Ptr: &inner{N: -1}, Raw: Raw{0x91, 0x01}, List: []inner{{N: 9}}}
	b, err := Encode(in)
	if err != nil {
		t.Fatal(err)
	}
	var got outer
	if err := Decode(b, &got); err != nil || !reflect.DeepEqual(got, in) {
		t.Errorf("%+v, %v; want %+v", got, err, in)
	}
	if err := Decode([]byte("\x81\xa4name\x91\x01"), &got); err == nil {
		t.Error("an array was accepted as a name")
	}
}

func TestDecodeRefusesBeforeItDecodes(t *testing.T) {
	many := AppendArray(nil, 131_072)
	for range 131_072 {
		many = AppendNil(many)
	}
	for name, in := range map[string]string{
		"4 G entries":  "\xdf\xff\xff\xff\xff",
		"4 G values":   "\xdd\xff\xff\xff\xff",
		"deep":         strings.Repeat("\x91", 4<<20) + "\xc0",
		"extension":    "\xd6\xff\x00\x00\x00\x00",
		"too many":     string(many),
		"two values":   "\x01\x02",
		"nothing":      "",
		"bad key":      "\x81\x01\x02",
		"twice":        "\x82\xa1a\x01\xa1a\x02",
		"not UTF-8":    "\xa1\xff",
		"unknown code": "\xc1",
	} {
		var v any
		var s struct{ A []inner }
		for _, into := range []any{&v, &s} {
			var e *Error
			if err := Decode([]byte(in), into); !errors.As(err, &e) {
				t.Errorf("%s into %T: %v", name, into, err)
			}
		}
	}
}

func TestErrorTextHasProblemPathAndExpectation(t *testing.T) {
	_, err := FromJSON([]byte(`{"args":{"inputs":[0,1,2,{"name":tru}]}}`), Request)
	if got, want := err.Error(), "wire: args.inputs[3].name: syntax: expected true at byte 33"; got != want {
		t.Errorf("%s; want %s", got, want)
	}
	_, err = FromJSON([]byte(`{"`+strings.Repeat("ü", 100)+`":{"a b":{"":?}}}`), Request)
	if got, want := err.(*Error).Path, `["`+strings.Repeat("ü", 32)+`..."]["a b"][""]`; got != want {
		t.Errorf("%s; want %s", got, want)
	}
}
