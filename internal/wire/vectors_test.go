package wire

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"testing"
)

// vector is one entry of contract/vectors/values.json; contract/vectors/README.md explains the fields.
type vector struct {
	Name      string  `json:"name"`
	JSON      *string `json:"json"`
	JSONHex   *string `json:"json_hex"`
	Msgpack   *string `json:"msgpack_hex"`
	Canonical string  `json:"canonical_hex"`
	JSONOut   *string `json:"json_out"`
	Refuse    string  `json:"refuse"`
	Path      string  `json:"path"`
	Depth     int     `json:"depth"`
	Nodes     int     `json:"nodes"`
}

func (v vector) limits() Limits {
	lim := Request
	if v.Depth > 0 {
		lim.Depth = v.Depth
	}
	if v.Nodes > 0 {
		lim.Nodes = v.Nodes
	}
	return lim
}

// json returns the JSON text of the vector, if it has one.
func (v vector) json(t testing.TB) ([]byte, bool) {
	if v.JSONHex != nil {
		return unhex(t, *v.JSONHex), true
	}
	if v.JSON != nil {
		return []byte(*v.JSON), true
	}
	return nil, false
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func readVectors(t testing.TB) []vector {
	t.Helper()
	b, err := os.ReadFile("../../contract/vectors/values.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Values []vector `json:"values"`
	}
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Values) < 200 {
		t.Fatalf("only %d vectors", len(file.Values))
	}
	return file.Values
}

func TestVectorsAreAccepted(t *testing.T) {
	for _, v := range readVectors(t) {
		if v.Refuse != "" {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			if text, ok := v.json(t); ok {
				got, err := FromJSON(text, v.limits())
				if err != nil || hex.EncodeToString(got) != v.Canonical {
					t.Errorf("FromJSON = %x, %v; want %s", got, err, v.Canonical)
				}
			}
			packed := unhex(t, *v.Msgpack)
			if err := Check(packed, v.limits()); err != nil {
				t.Errorf("Check = %v", err)
			}
			got, err := Canonical(packed, v.limits())
			if err != nil || hex.EncodeToString(got) != v.Canonical {
				t.Errorf("Canonical = %x, %v; want %s", got, err, v.Canonical)
			}
			if again, err := Canonical(got, v.limits()); err != nil || string(again) != string(got) {
				t.Errorf("Canonical of the canonical form = %x, %v", again, err)
			}
			if v.JSONOut != nil {
				text, err := AppendJSON(nil, got)
				if err != nil || string(text) != *v.JSONOut {
					t.Errorf("AppendJSON = %s, %v; want %s", text, err, *v.JSONOut)
				}
			}
		})
	}
}

func TestVectorsAreRefused(t *testing.T) {
	for _, v := range readVectors(t) {
		if v.Refuse == "" {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			if text, ok := v.json(t); ok {
				out, err := FromJSON(text, v.limits())
				wantRefused(t, "FromJSON", v, err)
				if out != nil {
					t.Errorf("FromJSON returned %x with an error", out)
				}
			}
			if v.Msgpack != nil {
				packed := unhex(t, *v.Msgpack)
				wantRefused(t, "Check", v, Check(packed, v.limits()))
				out, err := Canonical(packed, v.limits())
				wantRefused(t, "Canonical", v, err)
				if out != nil {
					t.Errorf("Canonical returned %x with an error", out)
				}
			}
		})
	}
}

func wantRefused(t *testing.T, by string, v vector, err error) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Errorf("%s = %v; want %s", by, err, v.Refuse)
		return
	}
	if e.Problem != v.Refuse || e.Path != v.Path {
		t.Errorf("%s: problem %s at path %q; want %s at %q (%v)", by, e.Problem, e.Path, v.Refuse, v.Path, err)
	}
	if e.Expected == "" {
		t.Errorf("%s says nothing about what it expected", by)
	}
}
