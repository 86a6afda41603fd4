package dspex

import (
	"encoding/json"
	"reflect"
	"testing"
)

// usual are replies as the service writes them.
var usual = []string{
	`{"attempt":1,"engine":"stub","job":"q7","ok":true,"result":{"text":"x\"}\u00e9"},"session":{"host":"h1","id":"s1","state":"warm","worker":"h1/0"},"timing":{"queued_ms":1,"run_ms":2}}`,
	`{"attempt":2,"engine":"dspy 3.4.1","job":"j","ok":true,"ran_on":{"host":"h1","worker":"h1/0"},"result":[1,null],"timing":{"queued_ms":0,"run_ms":0},"usage":{"echo":{"calls":1}}}`,
}

// FuzzScan compares scan with encoding/json.
func FuzzScan(f *testing.F) {
	for _, text := range append(usual, `{"ok":true,"result":null}`, `{"ok":true,"job":"é"}`, `{"ok":true,"attempt":1e2}`, `{"ok":true,"attempt":1.5}`, `{"ok":true,"session":null}`,
		`{"ok":true,"session":{"id":"a"},"session":{"host":"b"}}`, `{"ok":true,"usage":null}`, `{"ok":true,"usage":{"a":1},"usage":{"b":2}}`, `{"ok":true,"timing":{"run_ms":1e999}}`, `{"OK":true}`, `{"ok":true,"job":7}`, `{}`, `[]`, `x`) {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var got, want wireReply
		if !got.scan(text) {
			return
		}
		if err := json.Unmarshal(text, &want); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %+v, want %+v", text, got, want)
		}
	})
}

func TestTheUsualReplyIsScanned(t *testing.T) {
	for _, text := range usual {
		if !new(wireReply).scan([]byte(text)) {
			t.Errorf("%s is read by reflection", text)
		}
	}
}

func BenchmarkParseReply(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseReply([]byte(usual[0]), JobRef{}); err != nil {
			b.Fatal(err)
		}
	}
}
