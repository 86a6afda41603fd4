package mcptools

import (
	"encoding/json"
	"testing"
)

func TestATypeBecomesASchema(t *testing.T) {
	for text, want := range map[string]string{
		"":                      `{"type":"string"}`,
		"str":                   `{"type":"string"}`,
		"integer":               `{"type":"integer"}`,
		"bool":                  `{"type":"boolean"}`,
		"any":                   `{}`,
		"list[dict[str, int]]":  `{"items":{"additionalProperties":{"type":"integer"},"type":"object"},"type":"array"}`,
		"Optional[list[float]]": `{"anyOf":[{"items":{"type":"number"},"type":"array"},{"type":"null"}]}`,
		"str | None":            `{"anyOf":[{"type":"string"},{"type":"null"}]}`,
		`Literal['a', "b", 1]`:  `{"enum":["a","b",1]}`,
		`Literal['it\'s']`:      `{"enum":["it's"]}`,
		"Invoice":               `{}`,
		"list[Invoice]":         `{"items":{},"type":"array"}`,
		"list[":                 `{}`,
		"list[str]]":            `{}`,
		"Literal[a]":            `{}`,
		"?":                     `{}`,
		"list[list[list[list[list[list[list[list[list[list[str]]]]]]]]]]": `{}`,
	} {
		got, err := json.Marshal(typeSchema(text))
		if err != nil || string(got) != want {
			t.Errorf("%q: got %s, want %s (%v)", text, got, want, err)
		}
	}
}

func TestAFieldIsRequiredUnlessItMayBeLeftOut(t *testing.T) {
	no := false
	got, err := json.Marshal(schemaOf([]field{{Name: "a", Type: "str", Description: "d"}, {Name: "b", Type: "Optional[str]"}, {Name: "c", Type: "history"}, {Name: "d", Type: "str", Required: &no}})["required"])
	if err != nil || string(got) != `["a"]` {
		t.Errorf("%s %v", got, err)
	}
}
