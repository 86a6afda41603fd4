package echolm

import (
	"slices"
	"strings"
)

// tool is a function that a prompt offers.
type tool struct {
	name   string
	schema *node // of its arguments as an object; nil: not visible
}

// maxTools bounds the tools of one prompt.
const maxTools = 1000

// Names that DSPy reserves: finish ends a ReAct run, submit ends a ReActV2 run and carries its outputs.
const (
	finishTool = "finish"
	submitTool = "submit"
)

// pick chooses the next tool: each run calls the first tool of its own once, then ends. It returns nil if nothing is left
// to call.
func pick(tools []tool, ending string, called bool) *tool {
	own := slices.IndexFunc(tools, func(t tool) bool { return t.name != ending })
	end := slices.IndexFunc(tools, func(t tool) bool { return t.name == ending })
	switch {
	case own >= 0 && !called:
		return &tools[own]
	case end >= 0:
		return &tools[end]
	}
	return nil
}

// parseTool reads how DSPy writes a tool: "NAME, whose description is <desc>...</desc>. It takes arguments {...}.".
func parseTool(line string) (tool, bool) {
	const mark = " It takes arguments "
	i := strings.LastIndex(line, mark)
	if i < 0 {
		return tool{}, false
	}
	name, _, _ := strings.Cut(strings.TrimSuffix(line[:i], "."), ", whose description is <desc>")
	t := tool{name: name}
	if args, err := parsePython(line[i+len(mark):]); err == nil && args.kind == object {
		schema := argsSchema(args)
		t.schema = &schema
	}
	return t, name != ""
}

// argsSchema makes an object schema of a map from argument to schema; an argument with a default is left to the tool.
func argsSchema(args node) node {
	required := node{kind: list}
	for i, name := range args.keys {
		if args.items[i].get("default") == nil {
			required.items = append(required.items, str(name))
		}
	}
	return obj("type", str("object"), "properties", args, "required", required)
}

// reactTools finds the tools of a ReAct prompt: lines "(1) NAME, whose ..." of the system message.
func reactTools(system string) []tool {
	var tools []tool
	for line := range strings.SplitSeq(system, "\n") {
		line = strings.TrimLeft(line, " ")
		number, rest, ok := strings.Cut(line, ") ")
		if !ok || len(number) < 2 || len(number) > 5 || number[0] != '(' {
			continue
		}
		if t, ok := parseTool(rest); ok && len(tools) < maxTools {
			tools = append(tools, t)
		}
	}
	return tools
}

// listedTools finds the tools of a ReActV2 prompt: an input that is a list of texts, each of them a tool.
func listedTools(inputs []section) []tool {
	for _, in := range inputs {
		if !strings.HasPrefix(in.text, "[") || !strings.Contains(in.text, "It takes arguments ") {
			continue
		}
		n, err := parseJSON(in.text)
		if err != nil {
			continue
		}
		var tools []tool
		for i := range n.items {
			if t, ok := parseTool(n.items[i].text); ok {
				tools = append(tools, t)
			}
		}
		return tools
	}
	return nil
}

// arguments writes the arguments of a call. The outputs that submit carries report that they are an echo, a tool's own
// arguments are the bare input: no program could use them otherwise.
func (g *generator) arguments(dst []byte, t *tool) []byte {
	if t.schema == nil {
		return append(dst, "{}"...)
	}
	inner := *g
	inner.root = t.schema
	inner.requiredOnly = t.name != submitTool
	if t.name != submitTool {
		inner.prefix = ""
	}
	dst = inner.value(dst, t.schema, 0)
	g.budget = inner.budget
	return dst
}

// toolCalls writes a value of DSPy's type ToolCalls.
func (g *generator) toolCalls(dst []byte, t *tool) []byte {
	if t == nil {
		return append(dst, `{"tool_calls": []}`...)
	}
	dst = appendQuoted(append(dst, `{"tool_calls": [{"name": `...), t.name)
	dst = g.arguments(append(dst, `, "args": `...), t)
	return append(dst, "}]}"...)
}
