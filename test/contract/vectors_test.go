package contract

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
)

// argumentsVector is an entry of contract/vectors/objects.json; contract/vectors/README.md explains the fields.
type argumentsVector struct {
	Name         string
	ObjectJSON   string `json:"object_json"`
	ObjectHex    string `json:"object_hex"`
	Type         string
	Size         int
	Digest       string
	Args         m
	Joined       json.RawMessage
	Refuse, Path string
}

// uploaded stores the bytes of a vector in two pieces.
func (v argumentsVector) uploaded(t *testing.T) reference {
	t.Helper()
	data := []byte(v.ObjectJSON)
	if v.ObjectHex != "" {
		var err error
		if data, err = hex.DecodeString(v.ObjectHex); err != nil {
			t.Fatal(err)
		}
	}
	ask := m{}
	for _, piece := range [][]byte{data[:1], data[1:]} {
		ask["data"] = base64.StdEncoding.EncodeToString(piece)
		r := stub.request(t, "dspex.rpc.objects.upload", text(ask))
		r.succeeds(t)
		result := r.Result.(m)
		ask["object"], ask["cursor"] = result["object"], result["cursor"]
	}
	ref := reference{ask["object"].(string), v.Size, v.Digest, v.Type}
	stub.request(t, "dspex.rpc.objects.complete", text(whole("", ref))).succeeds(t)
	return ref
}

func TestVectorsOfReferences(t *testing.T) {
	file, err := os.ReadFile("../../contract/vectors/objects.json")
	if err != nil {
		t.Fatal(err)
	}
	var all struct{ Arguments []argumentsVector }
	in := json.NewDecoder(bytes.NewReader(file))
	in.DisallowUnknownFields()
	if err := in.Decode(&all); err != nil {
		t.Fatal(err)
	}
	if len(all.Arguments) < 10 {
		t.Fatalf("%d vectors", len(all.Arguments))
	}
	for _, v := range all.Arguments {
		t.Run(v.Name, func(t *testing.T) {
			r := stub.request(t, "dspex.rpc.anonymous", text(v.uploaded(t).asArgs("echo", v.Args)))
			if v.Refuse != "" {
				r.refused(t, "python", v.Refuse, v.Path)
				return
			}
			r.succeeds(t)
			var want m
			if err := json.Unmarshal(v.Joined, &want); err != nil {
				t.Fatal(err)
			}
			is(t, r.Result.(m), want)
			if got := r.Result.(m); len(got) != len(want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}
