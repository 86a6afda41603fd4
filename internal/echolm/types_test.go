package echolm

import (
	"strings"
	"testing"
)

func TestTypesBecomeTheSchemaThatSaysTheSame(t *testing.T) {
	for text, want := range map[string]string{
		`str`:                        `{"type": "string"}`,
		`int`:                        `{"type": "integer"}`,
		`float`:                      `{"type": "number"}`,
		`bool`:                       `{"type": "boolean"}`,
		`NoneType`:                   `{"type": "null"}`,
		`Any`:                        `{}`,
		`typing.Any`:                 `{}`,
		`list`:                       `{"type": "array"}`,
		`dict`:                       `{"type": "object"}`,
		`list[int]`:                  `{"type": "array", "items": {"type": "integer"}}`,
		`List[str]`:                  `{"type": "array", "items": {"type": "string"}}`,
		`dict[str, list[bool]]`:      `{"type": "object", "propertyNames": {"type": "string"}, "additionalProperties": {"type": "array", "items": {"type": "boolean"}}}`,
		`Union[str, NoneType]`:       `{"anyOf": [{"type": "string"}, {"type": "null"}]}`,
		`Optional[int]`:              `{"anyOf": [{"type": "integer"}, {"type": "null"}]}`,
		`int | None`:                 `{"anyOf": [{"type": "integer"}, {"type": "null"}]}`,
		`Literal['a', "it's", 1]`:    `{"enum": ["a", "it's", 1]}`,
		`Literal[-2, True, None]`:    `{"enum": [-2, true, null]}`,
		`Literal['a, b', 'x]', ')']`: `{"enum": ["a, b", "x]", ")"]}`,
		`Literal['b"c\'d', 'e']`:     `{"enum": ["b\"c'd", "e"]}`,
		`Literal['back\', 'e']`:      `{"enum": ["back\\", "e"]}`,
		`Literal['']`:                `{"enum": [""]}`,
		`Literal[Colour.RED, 'a']`:   `{"enum": ["a"]}`,
		`Address`:                    `{"class": "Address"}`,
		`list[Address]`:              `{"type": "array", "items": {"class": "Address"}}`,
		`tuple[int, str]`:            `{"class": "tuple"}`,
	} {
		schema, rest, ok := parseType(text + ") and more")
		if got := string(schema.appendJSON(nil)); !ok || got != want || rest != ") and more" {
			t.Errorf("%s: got %s, rest %q, ok %v; want %s", text, got, rest, ok, want)
		}
	}
}

func TestWhatIsNoTypeIsRefused(t *testing.T) {
	for _, text := range []string{"", "[int]", "list[", "list[int", "list[int;str]", "Literal[", "Literal['a", "int | ", "'str'",
		strings.Repeat("list[", 100) + "int" + strings.Repeat("]", 100), "Union[" + strings.Repeat("int, ", 20_000) + "int]"} {
		if schema, _, ok := parseType(text); ok {
			t.Errorf("%.40q: read as %.80s", text, schema.appendJSON(nil))
		}
	}
}

func TestClassesAreSeenAtAnyDepth(t *testing.T) {
	for text, want := range map[string]bool{"list[dict[str, Address]]": true, "list[dict[str, int]]": false, "Union[int, Colour]": true} {
		if schema, _, _ := parseType(text); hasClass(&schema) != want {
			t.Errorf("%s: want class %v", text, want)
		}
	}
}
