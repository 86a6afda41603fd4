package echolm

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// maxEcho bounds the bytes of the input that one text of an answer repeats.
const maxEcho = 4096

// task is what one conversation requests.
type task struct {
	form   form
	fields []field
	inputs []section
	input  string         // the text that is echoed, cleaned
	turn   int            // 1 for the first question of a conversation
	goesOn bool           // a run of tools that got the result of its first call
	call   *tool          // the tool to call, if the prompt offers any
	native bool           // the call belongs in tool_calls of the reply
	given  map[string]any // outputs that are not made up
}

// newTask reads a conversation. It fails on a DSPy prompt that it cannot follow.
func newTask(c *conversation) (task, error) {
	last := c.lastUser()
	content := c.messages[last].Content
	f, before, wanted := request(content)
	t := task{form: f}
	if f == plainForm {
		t.inputs = []section{{"", strings.TrimSpace(content)}}
	} else {
		var err error
		if t.fields, err = wantedFields(f, wanted); err != nil {
			return t, err
		}
		t.inputs = sections(f, before)
	}
	t.goesOn = continues(c, last, firstInput(t.inputs) != "")
	t.turn, t.input = t.count(c, last)
	t.resolve(c, wanted)
	t.chooseTool(c)
	if c.outputs != nil && f != plainForm {
		inputs := map[string]string{}
		for _, in := range t.inputs {
			inputs[in.name] = in.text
		}
		t.given = c.outputs(inputs)
	}
	return t, nil
}

// continues reports whether the conversation's last word is the result of a tool call. DSPy puts its request for an answer
// behind that; with an input in it, it is a new question.
func continues(c *conversation, last int, asks bool) bool {
	if c.messages[len(c.messages)-1].Role == "tool" {
		return true
	}
	if last == 0 || asks {
		return false
	}
	previous := c.messages[last-1]
	return previous.Role == "tool" || previous.Role == "user" && isToolResult(previous.Content)
}

func isToolResult(content string) bool {
	return strings.HasPrefix(content, "[[ ## tool_call_results ## ]]") || strings.HasPrefix(content, "<tool_call_results>")
}

// count returns the number of the turn and the text to echo. An earlier turn is a user message that requests an answer:
// DSPy's examples request none. A run of tools belongs to the question that began it.
func (t *task) count(c *conversation, last int) (turn int, input string) {
	turn, input = 1, firstInput(t.inputs)
	for i := last - 1; i >= 0; i-- {
		m := c.messages[i]
		if m.Role != "user" || isToolResult(m.Content) {
			continue
		}
		f, before, _ := request(m.Content)
		if t.form != plainForm && f == plainForm {
			continue
		}
		if t.goesOn && input == "" {
			// The question itself: the call's own message repeats no input.
			if f == plainForm {
				input = strings.TrimSpace(m.Content)
			} else {
				input = firstInput(sections(f, before))
			}
			continue
		}
		turn++
	}
	return turn, clean(input)
}

// firstInput returns the first input that a person may have written.
func firstInput(inputs []section) string {
	for _, in := range inputs {
		machine := in.name == "tools" || in.name == "trajectory" || in.name == "history"
		if in.text != "" && !machine && !strings.Contains(in.text, "It takes arguments {") {
			return in.text
		}
	}
	return ""
}

// clean makes a text safe inside every form: DSPy takes a line that starts with a header for the end of a field, and XML
// has no control characters.
func clean(s string) string {
	if len(s) > maxEcho {
		cut := maxEcho
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "…"
	}
	s = strings.ReplaceAll(s, "[[ ##", "[[##")
	if strings.IndexFunc(s, notXML) >= 0 {
		s = strings.Map(func(r rune) rune {
			if notXML(r) {
				return -1
			}
			return r
		}, s)
	}
	return s
}

func notXML(r rune) bool {
	return r < 0x20 && r != '\n' && r != '\t' || r == 0xfffe || r == 0xffff || r == utf8.RuneError
}

// resolve completes the fields' schemas from the system message and the response_format.
func (t *task) resolve(c *conversation, wanted string) {
	system := c.system()
	if t.form == xmlForm {
		readTypes(t.fields, system)
		readOutlines(t.fields, wanted)
	}
	if t.useSchema(c.schema) {
		return
	}
	var remarks notes
	for i := range t.fields {
		f := &t.fields[i]
		if f.toolCalls || !hasClass(&f.schema) {
			continue
		}
		if remarks == nil {
			remarks = readNotes(t.form, system)
		}
		if schema, ok := remarks.schema(f.name); ok {
			f.schema = schema
		} else if property := c.schema.get("properties").get(f.name); property != nil {
			f.schema = withDefs(property, c.schema)
		}
	}
}

// useSchema makes the properties of a response_format schema the fields, unless the prompt names the same ones: its types
// express more (the keys of a dict).
func (t *task) useSchema(schema *node) bool {
	properties := schema.get("properties")
	if properties.empty() {
		return false
	}
	if t.form == jsonForm && slices.ContainsFunc(t.fields, func(f field) bool { return properties.get(f.name) != nil }) {
		return false
	}
	t.form, t.fields = jsonForm, nil
	for i, name := range properties.keys[:min(len(properties.keys), maxFields)] {
		t.fields = append(t.fields, field{name: name, schema: withDefs(&properties.items[i], schema)})
	}
	return true
}

// withDefs gives a property the definitions of its document, for its references.
func withDefs(property, document *node) node {
	out := *property
	for _, key := range []string{"$defs", "definitions"} {
		if defs := document.get(key); defs != nil && out.kind == object && out.get(key) == nil {
			out.keys = append(slices.Clip(out.keys), key)
			out.items = append(slices.Clip(out.items), *defs)
		}
	}
	return out
}

// chooseTool decides on a tool call in any of the three ways that DSPy requests one.
func (t *task) chooseTool(c *conversation) {
	if len(c.tools) > 0 && c.toolChoice != "none" {
		t.native = true
		if i := slices.IndexFunc(c.tools, func(o tool) bool { return o.name == c.toolChoice }); i >= 0 {
			t.call = &c.tools[i]
			return
		}
		t.call = pick(c.tools, submitTool, t.goesOn)
		return
	}
	for i := range t.fields {
		switch f := &t.fields[i]; {
		case f.toolCalls:
			t.call = pick(listedTools(t.inputs), submitTool, t.goesOn)
		case f.name == "next_tool_name" && f.schema.get("enum") != nil:
			t.call = t.reactCall(c, f.schema.get("enum"))
		}
	}
}

// reactCall chooses among the names that ReAct allows; what it has called stands in the trajectory.
func (t *task) reactCall(c *conversation, allowed *node) *tool {
	visible := reactTools(c.system())
	var tools []tool
	for i := range allowed.items[:min(len(allowed.items), maxTools)] {
		name := allowed.items[i].text
		o := tool{name: name}
		if j := slices.IndexFunc(visible, func(v tool) bool { return v.name == name }); j >= 0 {
			o = visible[j]
		}
		tools = append(tools, o)
	}
	called := false
	for i, in := range t.inputs {
		if in.name == "trajectory" {
			called = strings.Contains(in.text, "tool_name_0") || slices.ContainsFunc(t.inputs[i:], func(s section) bool { return s.name == "tool_name_0" })
		}
	}
	return pick(tools, finishTool, called)
}
