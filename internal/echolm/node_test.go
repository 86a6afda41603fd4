package echolm

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestJSONKeepsTheOrderOfItsKeys(t *testing.T) {
	const in = ` {"b": [1, -2.5e3, true, null], "a": {"é\n\u00e9\ud834\udd1e": "\/"}, "c": "` + "\u2028" + `"} `
	n, err := parseJSON(in)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"b": [1, -2.5e3, true, null], "a": {"é\né𝄞": "/"}, "c": "\u2028"}`
	if got := string(n.appendJSON(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestTheLastOfEqualKeysCounts(t *testing.T) {
	n, err := parseJSON(`{"a": "x", "a": "y"}`)
	if err != nil || n.str("a") != "y" {
		t.Errorf("got %q, %v", n.str("a"), err)
	}
}

func TestPythonLiteralsAreReadAsReprWritesThem(t *testing.T) {
	n, err := parsePython(`{'city': {"type": 'str\'ing'}, 'd': (1, 2.5,), 'ok': [True, False, None], 'x': '\x41\u0042\U00000043'}. And more`)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"city": {"type": "str'ing"}, "d": [1, 2.5], "ok": [true, false, null], "x": "ABC"}`
	if got := string(n.appendJSON(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestABodyOutsideTheBoundsIsRefused(t *testing.T) {
	for name, in := range map[string]string{
		"depth": strings.Repeat("[", 200) + strings.Repeat("]", 200),
		"nodes": "[" + strings.Repeat("0,", maxNodes) + "0]",
	} {
		if _, err := parseJSON(in); err == nil || !strings.Contains(err.Error(), "at most") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// FuzzJSON holds the parser against encoding/json: what it accepts is JSON with the same meaning, and the other way round
// within its bounds.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{`{"a":[1,2.5e-3,true,false,null,"x\u00e9\n"]}`, `"\ud834\udd1e \ud834"`, `[01]`, `[1.]`, `-`, `[-]`, `{"a":1,}`, `[.5]`, `"` + "\x01" + `"`, `1e999`, "\"\xff\"", `[1 2]`, `{"a" 1}`, `nul`, `+1`, `1.e5`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		n, err := parseJSON(in)
		var want any
		wantErr := json.Unmarshal([]byte(in), &want)
		if (err == nil) != (wantErr == nil) {
			if wantErr == nil && strings.Contains(err.Error(), "at most") {
				return
			}
			t.Fatalf("%q: got %v, encoding/json %v", in, err, wantErr)
		}
		if err != nil {
			return
		}
		var got any
		out := n.appendJSON(nil)
		if err := json.Unmarshal(out, &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: got %s (%v), want %v", in, out, err, want)
		}
	})
}

func FuzzPython(f *testing.F) {
	f.Add(`{'a': {'type': "string"}, 'b': (1, None)}`)
	f.Add(`'\U0010ffff\x4'`)
	f.Fuzz(func(t *testing.T, in string) {
		if n, err := parsePython(in); err == nil && !json.Valid(n.appendJSON(nil)) {
			t.Fatalf("%q: read as %s", in, n.appendJSON(nil))
		}
	})
}
