package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// scenario is an entry of contract/vectors/requests.json; contract/vectors/README.md explains the fields.
type scenario struct {
	Name  string
	Steps []struct {
		Subject      string
		Body, Answer json.RawMessage
		Until        bool
	}
}

// unlike reports where an answer differs from what is expected of it; "": nowhere.
func unlike(want, got any, path string) string {
	switch want := want.(type) {
	case map[string]any:
		have, is := got.(map[string]any)
		if !is {
			return fmt.Sprintf("%s is %v, want a map", path, got)
		}
		for key, value := range want {
			if bad := unlike(value, have[key], path+"."+key); bad != "" {
				return bad
			}
		}
		return ""
	case []any:
		have, is := got.([]any)
		if !is || len(have) != len(want) {
			return fmt.Sprintf("%s is %v, want a list of %d", path, got, len(want))
		}
		for i, value := range want {
			if bad := unlike(value, have[i], fmt.Sprintf("%s[%d]", path, i)); bad != "" {
				return bad
			}
		}
		return ""
	}
	if got != want && (want != "*" || got == nil) {
		return fmt.Sprintf("%s is %v, want %v", path, got, want)
	}
	return ""
}

func (sc scenario) run(t *testing.T) {
	cursor := ""
	for i, step := range sc.Steps {
		body := strings.ReplaceAll(string(step.Body), "<cursor>", cursor)
		var want map[string]any
		if err := json.Unmarshal(step.Answer, &want); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(patience); ; {
			m, err := stub.nc.RequestMsg(message(step.Subject, []byte(body)), patience)
			if err != nil {
				t.Fatal(err)
			}
			var got map[string]any
			if err := json.Unmarshal(m.Data, &got); err != nil {
				t.Fatal(err)
			}
			bad := unlike(want, got, "")
			if bad != "" && step.Until && time.Now().Before(end) {
				continue
			}
			if bad != "" {
				t.Fatalf("step %d: %s; the answer is %s", i, bad, m.Data)
			}
			if result, is := got["result"].(map[string]any); is {
				cursor, _ = result["cursor"].(string)
			}
			break
		}
	}
}

func TestVectorsOfRequests(t *testing.T) {
	file, err := os.ReadFile("../../contract/vectors/requests.json")
	if err != nil {
		t.Fatal(err)
	}
	var all struct{ Scenarios []scenario }
	in := json.NewDecoder(bytes.NewReader(file))
	in.DisallowUnknownFields()
	if err := in.Decode(&all); err != nil {
		t.Fatal(err)
	}
	if len(all.Scenarios) < 9 {
		t.Fatalf("%d scenarios", len(all.Scenarios))
	}
	var names []string
	for _, sc := range all.Scenarios {
		if slices.Contains(names, sc.Name) {
			t.Errorf("the name %q appears twice", sc.Name)
		}
		names = append(names, sc.Name)
		t.Run(sc.Name, sc.run)
	}
}
