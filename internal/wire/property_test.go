package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// genValue draws a value of the data model.
func genValue(t *rapid.T, depth int) any {
	kinds := 9
	if depth == 0 {
		kinds = 7
	}
	switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
	case 0:
		return nil
	case 1:
		return rapid.Bool().Draw(t, "bool")
	case 2:
		return rapid.Int64().Draw(t, "int")
	case 3:
		return rapid.Uint64Min(math.MaxInt64+1).Draw(t, "large")
	case 4:
		return rapid.Float64().Draw(t, "float")
	case 5:
		return rapid.String().Draw(t, "str")
	case 6:
		return rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "bin")
	case 7:
		list := make([]any, rapid.IntRange(0, 20).Draw(t, "len"))
		for i := range list {
			list[i] = genValue(t, depth-1)
		}
		return list
	}
	m := map[string]any{}
	seen := map[string]bool{}
	for _, k := range rapid.SliceOfN(rapid.StringN(0, 40, 60), 0, 20).Draw(t, "keys") {
		folded := strings.ToLower(strings.ToUpper(k))
		if !seen[folded] {
			seen[folded] = true
			m[k] = genValue(t, depth-1)
		}
	}
	return m
}

// loose writes v in any of its encodings, with map keys in any order.
func loose(t *rapid.T, dst []byte, v any) []byte {
	wide := func(least int) int { return max(least, rapid.IntRange(0, 3).Draw(t, "width")) }
	sized := func(dst []byte, codes [4]byte, n, least int) []byte {
		w := wide(least)
		if codes[w] == 0 {
			w = least
		}
		dst = append(dst, codes[w])
		full := binary.BigEndian.AppendUint64(nil, uint64(n))
		return append(dst, full[8-1<<w:]...)
	}
	least := func(n uint64) int {
		switch {
		case n <= math.MaxUint8:
			return 0
		case n <= math.MaxUint16:
			return 1
		case n <= math.MaxUint32:
			return 2
		}
		return 3
	}
	switch v := v.(type) {
	case int64:
		if v >= 0 && rapid.Bool().Draw(t, "unsigned") {
			return sized(dst, [4]byte{0xcc, 0xcd, 0xce, 0xcf}, int(v), least(uint64(v)))
		}
		return sized(dst, [4]byte{0xd0, 0xd1, 0xd2, 0xd3}, int(v), least(uint64(v^v>>63)<<1))
	case string:
		return append(sized(dst, [4]byte{0xd9, 0xda, 0xdb, 0}, len(v), least(uint64(len(v)))), v...)
	case []byte:
		return append(sized(dst, [4]byte{0xc4, 0xc5, 0xc6, 0}, len(v), least(uint64(len(v)))), v...)
	case []any:
		dst = sized(dst, [4]byte{0, 0xdc, 0xdd, 0}, len(v), 1)
		for _, x := range v {
			dst = loose(t, dst, x)
		}
		return dst
	case map[string]any:
		dst = sized(dst, [4]byte{0, 0xde, 0xdf, 0}, len(v), 1)
		for k, x := range v { // the order of Go maps is any order
			dst = loose(t, loose(t, dst, k), x)
		}
		return dst
	}
	b, err := Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return append(dst, b...)
}

func TestEveryEncodingHasOneCanonicalForm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := genValue(t, 3)
		want, err := Encode(v)
		if err != nil {
			t.Fatal(err)
		}
		b := loose(t, nil, v)
		got, err := Canonical(b, Pass)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%x: %x, %v; want %x", b, got, err, want)
		}
		var back any
		if err := Decode(got, &back); err != nil {
			t.Fatal(err)
		}
		if again, err := Encode(back); err != nil || !bytes.Equal(again, want) {
			t.Fatalf("%v decodes to %v, %v", v, back, err)
		}
	})
}

func TestEveryCutIsRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := loose(t, nil, genValue(t, 2))
		cut := rapid.IntRange(0, len(b)-1).Draw(t, "cut")
		var e *Error
		if err := Check(b[:cut], Pass); !errors.As(err, &e) || e.Problem != Truncated {
			t.Fatalf("%x: %v", b[:cut], err)
		}
		if err := Check(append(b, 0xc0), Pass); !errors.As(err, &e) || e.Problem != Trailing {
			t.Fatalf("trailing: %v", err)
		}
	})
}

// TestKeysClashAsEqualFoldSays compares the two ways to find clashes with the definition, in both spellings.
func TestKeysClashAsEqualFoldSays(t *testing.T) {
	letters := []rune("akKsSbB\u212a\u017féÉσςΣ世ǅǆ")
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.SliceOfN(rapid.StringOfN(rapid.SampledFrom(letters), 1, 4, -1), 0, 24).Draw(t, "keys")
		want := ""
		for i := range keys {
			for j := range i {
				if strings.EqualFold(keys[i], keys[j]) && want == "" {
					want = "clash"
				}
			}
		}
		packed, text := AppendMap(nil, len(keys)), "{"
		for i, k := range keys {
			packed = AppendNil(AppendStr(packed, k))
			text += fmt.Sprintf("%q:null", k)
			if i < len(keys)-1 {
				text += ","
			}
		}
		_, err := FromJSON([]byte(text+"}"), Request)
		for by, err := range map[string]error{"Check": Check(packed, Request), "FromJSON": err} {
			var e *Error
			got := ""
			if errors.As(err, &e) && (e.Problem == DuplicateKey || e.Problem == KeyCase) {
				got = "clash"
			}
			if got != want || err != nil && got == "" {
				t.Fatalf("%s of %q: %v; want %q", by, keys, err, want)
			}
		}
	})
}

func TestTextRunFindsTheSameAsALoop(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOf(rapid.SampledFrom([]byte("abc !~\x7f\x80\xff\xc3\"\\\n\x1f\x00"))).Draw(t, "bytes")
		end, ascii := 0, true
		for ; end < len(b) && b[end] != '"' && b[end] != '\\' && b[end] >= ' '; end++ {
			ascii = ascii && b[end] < 0x80
		}
		if gotEnd, gotASCII := textRun(b, 0); gotEnd != end || gotASCII != ascii {
			t.Fatalf("%q: %d, %v; want %d, %v", b, gotEnd, gotASCII, end, ascii)
		}
	})
}
