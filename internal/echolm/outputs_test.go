package echolm

import (
	"os"
	"strings"
	"testing"
)

// TestOutputsOfATestStandWhereTheEchoWouldBe in each form that DSPy reads.
func TestOutputsOfATestStandWhereTheEchoWouldBe(t *testing.T) {
	for name, want := range map[string]string{"chat": "[[ ## %s ## ]]\nA <b>\n", "json": `"%s": "A \u003cb\u003e"`, "xml": "<%s>A &lt;b&gt;</%s>"} {
		body, err := os.ReadFile("testdata/prompts/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		n, err := parseBody(string(body))
		if err != nil {
			t.Fatal(err)
		}
		c, err := parseChat(n)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := newTask(&c)
		if err != nil || len(plain.fields) == 0 || len(plain.inputs) == 0 {
			t.Fatalf("%s: %+v %v", name, plain, err)
		}
		field := plain.fields[0].name
		c.outputs = func(inputs map[string]string) map[string]any {
			if inputs[plain.inputs[0].name] != plain.inputs[0].text {
				t.Errorf("%s: the inputs are %v", name, inputs)
			}
			return map[string]any{field: "A <b>"}
		}
		a, err := reply(&c)
		if err != nil || !strings.Contains(a.content, strings.ReplaceAll(want, "%s", field)) {
			t.Errorf("%s: %q, %v", name, a.content, err)
		}
	}
}
