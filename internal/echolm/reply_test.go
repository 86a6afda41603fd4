package echolm

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite testdata/answers.golden: read the difference before you commit it")

// testdata/prompts holds request bodies as DSPy 3.4.1 sent them.
func prompts(tb testing.TB) map[string]string {
	files, err := filepath.Glob("testdata/prompts/*.json")
	if err != nil || len(files) == 0 {
		tb.Fatal("no prompts in testdata", err)
	}
	bodies := map[string]string{}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		bodies[strings.TrimSuffix(filepath.Base(file), ".json")] = string(body)
	}
	return bodies
}

func chat(body string) (answer, error) {
	n, err := parseBody(body)
	if err != nil {
		return answer{}, err
	}
	c, err := parseChat(n)
	if err != nil {
		return answer{}, err
	}
	return reply(&c)
}

// ask is the body of a chat with a system message and user messages; the odd ones in between are answers.
func ask(system string, turns ...string) string {
	messages := []Message{{"system", system}}
	for i, text := range turns {
		messages = append(messages, Message{[]string{"user", "assistant"}[i%2], text})
	}
	body, err := json.Marshal(map[string]any{"model": "echo", "messages": messages})
	if err != nil {
		panic(err)
	}
	return string(body)
}

func TestRealPromptsGetTheAnswersOfTheGoldenFile(t *testing.T) {
	const golden = "testdata/answers.golden"
	bodies := prompts(t)
	var out strings.Builder
	files, _ := filepath.Glob("testdata/prompts/*.json")
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		a, err := chat(bodies[name])
		if err != nil {
			t.Fatal(name, err)
		}
		fmt.Fprintf(&out, "==== %s (turn %d)\n%s\n", name, a.turn, a.content)
		if a.call != "" {
			fmt.Fprintf(&out, "---- call %s %s\n", a.call, a.callArgs)
		}
	}
	if *update {
		if err := os.WriteFile(golden, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("got:\n%s", out.String())
	}
}

func TestTheLastRequestInAMessageCounts(t *testing.T) {
	const fake = "[[ ## q ## ]]\nRespond with a JSON object in the following order of fields: `fake`.\n\n"
	a, err := chat(ask("", fake+chatRequest+"[[ ## real ## ]]`, and then ending"))
	if err != nil || !strings.HasPrefix(a.content, "[[ ## real ## ]]\necho: Respond with") {
		t.Errorf("got %q, %v", a.content, err)
	}
}

func TestAnEchoCannotEndItsOwnField(t *testing.T) {
	in := "[[ ## q ## ]]\nbefore [[ ## a ## ]] \x00\x1b behind\n\n"
	a, err := chat(ask("", in+chatRequest+"[[ ## a ## ]]`, and then ending"))
	if want := "[[ ## a ## ]]\necho: before [[## a ## ]]  behind\n\n[[ ## completed ## ]]\n"; err != nil || a.content != want {
		t.Errorf("got %q, %v, want %q", a.content, err, want)
	}
}

func TestALongInputIsShortenedAtACharacter(t *testing.T) {
	a, err := chat(ask("", strings.Repeat("é", 5000)))
	if want := "echo: " + strings.Repeat("é", maxEcho/2) + "…"; err != nil || a.content != want {
		t.Errorf("got %d bytes, %v", len(a.content), err)
	}
}

func TestFreeTextIsEchoedWithItsTurn(t *testing.T) {
	for turns, want := range map[string]string{"a": "echo: a", "a|b|c": "echo (turn 2): c", "a|b|c|d|e": "echo (turn 3): e"} {
		if a, err := chat(ask("be kind", strings.Split(turns, "|")...)); err != nil || a.content != want {
			t.Errorf("%s: got %q, %v", turns, a.content, err)
		}
	}
}

func TestPartsOfAMessageAreJoined(t *testing.T) {
	a, err := chat(`{"messages": [{"role": "user", "content": [{"type": "text", "text": "one "}, {"type": "image_url"}, {"type": "text", "text": "two"}]}]}`)
	if err != nil || a.content != "echo: one two" {
		t.Errorf("got %q, %v", a.content, err)
	}
}

func TestJSONModeWithoutAPromptIsAnObject(t *testing.T) {
	a, err := chat(`{"messages": [{"role": "user", "content": "hi"}], "response_format": {"type": "json_object"}}`)
	if err != nil || a.content != `{"echo": "echo: hi"}` {
		t.Errorf("got %q, %v", a.content, err)
	}
}

func TestTextsThatDSPyWouldRepairAreQuotedTwice(t *testing.T) {
	fields := "`any` (must be formatted as a valid Python Any), then `text`, then `maybe` (must be formatted as a valid Python Union[str, NoneType]), then " +
		"`lit` (must be formatted as a valid Python Union[Literal['1'], NoneType])."
	a, err := chat(ask("", "[[ ## q ## ]]\nsee {this}\n\n"+strings.TrimSuffix(jsonRequest, "`")+fields))
	const want = `{"any": "\"echo: see {this}\"", "text": "echo: see {this}", "maybe": "echo: see {this}", "lit": "\"1\""}`
	if err != nil || a.content != want {
		t.Errorf("got %s, %v\nwant %s", a.content, err, want)
	}
}

func TestChoicesKeepWhatDSPyWouldStrip(t *testing.T) {
	for in, want := range map[string]string{
		`a`: `a`, `it's`: `it's`, `"q"`: `""q""`, ` space`: `" space"`, ``: `""`, `Literal[z]`: `"Literal[z]"`, `"`: `"`,
	} {
		if got := quoteChoice(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestAnUnreadableTypeDoesNotHideTheNextField(t *testing.T) {
	a, err := chat(ask("", "[[ ## q ## ]]\nhi\n\n"+chatRequest+"[[ ## a ## ]]` (must be formatted as a valid Python <weird (type)>), then `[[ ## b ## ]]` (must be formatted as a valid Python int), and then ending"))
	if want := "[[ ## a ## ]]\necho: hi\n\n[[ ## b ## ]]\n1\n\n[[ ## completed ## ]]\n"; err != nil || a.content != want {
		t.Errorf("got %q, %v", a.content, err)
	}
}

func TestAPromptThatCannotBeFollowedIsRefused(t *testing.T) {
	many := strings.Repeat("a`, then `", maxFields+1) + "z`."
	for in, reason := range map[string]string{
		`{`:                            "must be JSON",
		`[]`:                           "must be a JSON object",
		`{"messages": 5}`:              "messages must be a list",
		`{"messages": []}`:             "messages must be a list",
		`{"messages": ["hi"]}`:         "messages[0] must be an object",
		ask("", chatRequest+"nothing"): "the chat prompt must name output field 1",
		ask("", jsonRequest+many):      "at most 256 output fields",
	} {
		if _, err := chat(in); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%.60s: got %v, want %q", in, err, reason)
		}
	}
}

func TestNativeToolsAreCalledOnceUnlessOneIsChosen(t *testing.T) {
	const tools = `"tools": [{"function": {"name": "submit"}}, {"function": {"name": "look", "parameters": {"type": "object", "properties": {"q": {"type": "string"}, "n": {"type": "integer"}}, "required": ["q"]}}}]`
	const question = `{"role": "user", "content": "hi"}`
	const result = question + `, {"role": "assistant"}, {"role": "tool", "content": "found"}`
	for in, want := range map[string]string{
		`{"messages": [` + question + `], ` + tools + `}`:                                                  `look {"q": "hi"}`,
		`{"messages": [` + result + `], ` + tools + `}`:                                                    `submit {}`,
		`{"messages": [` + question + `], "tool_choice": "none", ` + tools + `}`:                           ` `,
		`{"messages": [` + question + `], "tool_choice": {"function": {"name": "submit"}}, ` + tools + `}`: `submit {}`,
		`{"messages": [` + result + `, ` + question + `], ` + tools + `}`:                                  `look {"q": "hi"}`,
		`{"messages": [` + result + `], "tools": [{"function": {"name": "look"}}]}`:                        ` `,
	} {
		if a, err := chat(in); err != nil || a.call+" "+a.callArgs != want || !strings.HasSuffix(a.content, ": hi") {
			t.Errorf("%s\ngot %q %q %q, %v; want %q", in, a.call, a.callArgs, a.content, err, want)
		}
	}
}

// checkReply holds that an answer is bounded, depends on nothing but the conversation and has the form that was requested.
func checkReply(t *testing.T, c *conversation, size int) {
	a, err := reply(c)
	if err != nil {
		return
	}
	if limit := 2*maxAnswer + 20*size; len(a.content) > limit || len(a.callArgs) > limit {
		t.Fatalf("%d bytes of answer, %d of arguments for %d of prompt", len(a.content), len(a.callArgs), size)
	}
	if again, _ := reply(c); again != a {
		t.Fatalf("two answers: %+v and %+v", a, again)
	}
	asked, _ := newTask(c)
	if asked.form == jsonForm && !json.Valid([]byte(a.content)) {
		t.Fatalf("no JSON: %s", a.content)
	}
	if asked.form == chatForm {
		for _, field := range asked.fields {
			if !strings.Contains(a.content, headerStart+field.name+headerEnd+"\n") {
				t.Fatalf("no section %s in %s", field.name, a.content)
			}
		}
	}
	if a.call != "" && !json.Valid([]byte(a.callArgs)) {
		t.Fatalf("arguments are no JSON: %s", a.callArgs)
	}
}

func FuzzBody(f *testing.F) {
	for _, body := range prompts(f) {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		n, err := parseBody(body)
		if err != nil {
			return
		}
		for _, e := range endpoints {
			if c, err := e.parse(n); err == nil {
				checkReply(t, &c, len(body))
			}
		}
	})
}

func FuzzPrompt(f *testing.F) {
	for _, body := range prompts(f) {
		n, _ := parseBody(body)
		c, err := parseChat(n)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(c.system(), c.messages[c.lastUser()].Content, `{"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"anyOf": [{"type": "null"}, {"enum": [1]}]}}}`)
	}
	f.Add("", "x", `{"$ref": "#/$defs/A", "$defs": {"A": {"properties": {"a": {"$ref": "#/$defs/A"}, "b": {"type": "array", "minItems": 9, "items": {"$ref": "#/$defs/A"}}}}}}`)
	f.Fuzz(func(t *testing.T, system, user, schema string) {
		c := conversation{choices: 1, messages: []Message{{"system", system}, {"user", user}, {"assistant", ""}, {"user", user}}}
		checkReply(t, &c, len(system)+len(user))
		if n, err := parseJSON(schema); err == nil {
			c.schema = &n
			c.tools = []tool{{name: "look", schema: &n}}
			checkReply(t, &c, len(system)+len(user)+len(schema))
		}
	})
}
