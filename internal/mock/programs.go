package mock

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

func predict(c *call) (any, *failure) {
	var sig signature
	var e *failure
	switch given, outputs := c.options["signature"], c.options["outputs"]; {
	case given != nil:
		sig, e = parseSignature(given, "options.signature")
	case len(c.args) == 0:
		e = badInput("args", "at least one argument, such as question", "predict: there is no input")
	default:
		sig = inferred(c.args, outputs)
	}
	if e != nil {
		return nil, e
	}
	if e := sig.check(c.args, "args"); e != nil {
		return nil, e
	}
	module, _ := c.options["module"].(string)
	outputs := c.answer(sig, module, c.args)
	if c.state != nil {
		c.state.remember(c.args, outputs)
		c.changed = true
	}
	return outputs, nil
}

// answer is the scenario's answer, and for outputs that it leaves out a value of their type.
func (c *call) answer(sig signature, module string, inputs map[string]any) map[string]any {
	found := Find(c.slot.p.answers, inputs)
	text := ""
	for _, f := range sig.inputs {
		if v, there := inputs[f.name]; there && text == "" {
			if text, _ = v.(string); text == "" {
				text = spelled(v)
			}
		}
	}
	outputs := map[string]any{}
	if module == "chain_of_thought" {
		outputs["reasoning"] = mark + " thought about " + text
	}
	for _, f := range sig.outputs {
		if v, given := found[f.name]; given {
			outputs[f.name] = v
		} else {
			outputs[f.name] = valueOf(f.kind, text)
		}
	}
	c.stream(outputs)
	return outputs
}

var modules = []string{"predict", "chain_of_thought", "react"}

func createProgram(c *call) (any, *failure) {
	id, e := c.text("id")
	if e != nil {
		return nil, e
	}
	if !validID(id) {
		return nil, badInput("args.id", "1 to 128 letters, digits or _.:-", "create_program: the id is not allowed")
	}
	given, there := c.args["signature"]
	if !there {
		return nil, badInput("args.signature", "a map, or text such as question -> answer", "create_program: the signature is missing")
	}
	sig, e := parseSignature(given, "args.signature")
	if e != nil {
		return nil, e
	}
	module := "predict"
	if v, there := c.args["program_type"]; there {
		if module, _ = v.(string); !slices.Contains(modules, module) {
			return nil, badInput("args.program_type", strings.Join(modules, ", "), "unknown module")
		}
	}
	if was, there := c.state.Programs[id]; there {
		if was.Type == module && reflect.DeepEqual(normal(was.Signature), normal(sig.toMap())) {
			return id, nil
		}
		return nil, &failure{category: "python", code: "program_exists", message: "another program has the id " + id, path: "args.id", expected: "an id that is free",
			hint: "delete_program it first, or choose another id"}
	}
	c.state.with(id, &program{Signature: sig.toMap(), Type: module, CreatedAt: nowText()})
	c.changed = true
	return id, nil
}

func validID(id string) bool {
	return len(id) <= 128 && strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:-") == ""
}

// normal is the spelling of a map by which two are compared.
func normal(v any) string { return spelled(v) }

// program is the one that the arguments name.
func (c *call) program() (string, program, *failure) {
	v := c.args["program_id"]
	if m, ok := v.(map[string]any); ok { // as the original's create_program answered
		if v = m["program_id"]; v == nil {
			v = m["id"]
		}
	}
	id, _ := v.(string)
	if id == "" {
		return "", program{}, badInput("args.program_id", "the id that create_program answered", "%s: program_id is missing or no id", c.Command)
	}
	if c.state != nil {
		if p, there := c.state.Programs[id]; there {
			return id, p, nil
		}
	}
	return id, program{}, &failure{category: "session", code: "program_unknown", message: "unknown program " + id[:min(len(id), 128)], path: "args.program_id", expected: "a program's id",
		hint: "programs belong to their session; create_program first"}
}

func executeProgram(c *call) (any, *failure) {
	inputs, ok := c.args["inputs"].(map[string]any)
	if !ok {
		return nil, badInput("args.inputs", "a map of names to values", "execute_program: the inputs are missing or no map")
	}
	id, p, e := c.program()
	if e != nil {
		return nil, e
	}
	sig, e := parseSignature(p.Signature, "args.signature")
	if e == nil {
		e = sig.check(inputs, "args.inputs")
	}
	if e != nil {
		return nil, e
	}
	began := time.Now()
	outputs := c.answer(sig, p.Type, inputs)
	now := nowText()
	p.Count, p.Last = p.Count+1, &now
	c.state.with(id, &p)
	c.changed = true
	return map[string]any{"program_id": id, "outputs": outputs, "execution_time": time.Since(began).Seconds()}, nil
}

func (c *call) listed(id string, p program) map[string]any {
	return map[string]any{"id": id, "created_at": p.CreatedAt, "execution_count": p.Count, "last_executed": p.Last, "signature": p.Signature,
		"session_id": c.session(), "extra": map[string]any{"kind": "session", "learnt": nil}}
}

func listPrograms(c *call) (any, *failure) {
	list := []any{}
	if c.state != nil {
		for _, id := range slices.Sorted(maps.Keys(c.state.Programs)) {
			list = append(list, c.listed(id, c.state.Programs[id]))
		}
	}
	return map[string]any{"programs": list, "total_count": len(list)}, nil
}

func programInfo(c *call) (any, *failure) {
	id, p, e := c.program()
	if e != nil {
		return nil, e
	}
	names := map[string]any{}
	for _, side := range []string{"inputs", "outputs"} {
		fields, _ := p.Signature[side].([]any)
		for _, f := range fields {
			if m, ok := f.(map[string]any); ok {
				names[fmt.Sprint(m["name"])] = m["name"]
			}
		}
	}
	return map[string]any{"program_id": id, "program_type": p.Type, "signature": p.Signature, "field_mapping": names, "created_at": p.CreatedAt,
		"execution_count": p.Count, "last_executed": p.Last, "extra": map[string]any{"kind": "session", "learnt": nil, "session_id": c.session()}}, nil
}

func deleteProgram(c *call) (any, *failure) {
	id, _, e := c.program()
	if e != nil {
		return nil, e
	}
	c.state.with(id, nil)
	c.changed = true
	return map[string]any{"program_id": id, "status": "deleted"}, nil
}
