package contract_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/wire"
)

// FuzzMembers compares Members with encoding/json, on what the guard lets through.
func FuzzMembers(f *testing.F) {
	for _, text := range []string{`{}`, ` { "a" : 1 , "b":"x\"}" } `, `{"a":{"b":[{}]},"c":-1e3,"d":null,"e":true}`, `[1]`, `{"\u0061":1}`, `{"a":[1,"]"],"b":""}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := wire.FromJSON(text, wire.Request); err != nil {
			return
		}
		got := map[string]json.RawMessage{}
		read := contract.Members(text, func(key, value []byte) bool { got[string(key)] = value; return true })
		var want map[string]json.RawMessage
		isObject := json.Unmarshal(text, &want) == nil && want != nil
		if read && !isObject {
			t.Fatalf("%q was read, and is no object", text)
		}
		if escapes := bytes.ContainsRune(text, '\\'); isObject && !escapes && !read {
			t.Fatalf("%q is an object without escapes, and was not read", text)
		}
		if !read {
			return
		}
		if len(got) != len(want) {
			t.Fatalf("%q: got %q, want %q", text, got, want)
		}
		for key, value := range want {
			if !bytes.Equal(got[key], value) {
				t.Errorf("%q: %s must be %q, got %q", text, key, value, got[key])
			}
		}
	})
}
