package openai

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/dspex/dspex"
)

// plan is the job of a prompt, and how its answer is read.
type plan struct {
	job     dspex.JobRef
	command string
	args    dspex.Args
	options []dspex.CallOption
	field   string // the one output that is text; "": all outputs, as JSON
	live    bool   // its text may be sent as it comes
	nested  bool   // the outputs stand under "outputs"
}

// planned makes the job of a prompt.
func (s *Server) planned(ctx context.Context, c Caller, p prompt, job dspex.JobRef) (*plan, error) {
	made := &plan{job: job, options: []dspex.CallOption{dspex.WithJobID(job.ID)}}
	if p.temperature != nil {
		made.options = append(made.options, dspex.WithTemperature(*p.temperature))
	}
	if id, ok := strings.CutPrefix(p.model, programs); ok {
		return made, made.program(ctx, c, p, id)
	}
	if p.model != Default {
		made.options = append(made.options, dspex.WithLM(p.model))
	}
	made.predict(p)
	return made, nil
}

// predict queries the language model itself. The system's text is the instructions of its signature.
func (m *plan) predict(p prompt) {
	inputs := []any{map[string]any{"name": "question", "type": "string"}}
	m.args = dspex.Args{"question": p.question}
	if len(p.history) > 0 {
		inputs = append(inputs, map[string]any{"name": "history", "type": "history"})
		m.args["history"] = turns(p.history, "question", "answer")
	}
	signature := map[string]any{"inputs": inputs, "outputs": []any{map[string]any{"name": "answer", "type": "string"}}}
	if p.system != "" {
		signature["description"] = p.system
	}
	m.command, m.field, m.live = "predict", "answer", true
	m.options = append(m.options, dspex.WithSignature(signature))
}

func turns(history []turn, question, answer string) []any {
	all := make([]any, len(history))
	for i, t := range history {
		all[i] = map[string]any{question: t.question, answer: t.answer}
	}
	return all
}

// info is the answer of get_program_info.
type info struct {
	ProgramType string `json:"program_type"`
	Signature   struct {
		Inputs  []field `json:"inputs"`
		Outputs []field `json:"outputs"`
	} `json:"signature"`
}

type field struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	Required *bool  `json:"required"`
}

func (f field) text() bool { return f.Type == "" || f.Type == "string" || f.Type == "str" }

// program runs a program: one input that is text gets the user's text; several get the text's JSON.
func (m *plan) program(ctx context.Context, c Caller, p prompt, id string) error {
	reply, err := execute(ctx, c.Client, m.job.Session, "get_program_info", dspex.Args{"program_id": id})
	if err != nil {
		return err
	}
	var found info
	if err := reply.Decode(&found); err != nil {
		return &dspex.Error{Category: dspex.ErrCommunication, Code: dspex.CodeBadReply, Message: "the description of the program is not the expected JSON"}
	}
	if p.system != "" {
		return invalid("messages", "unsupported_value", "a program has instructions of its own: leave out the messages of system and developer")
	}
	inputs, f := found.inputs(p)
	if f != nil {
		return f
	}
	m.command, m.args, m.nested = "execute_program", dspex.Args{"program_id": id, "inputs": inputs}, true
	if outputs := found.Signature.Outputs; len(outputs) == 1 && outputs[0].text() {
		m.field = outputs[0].Name
		m.live = found.ProgramType == "predict" || found.ProgramType == "chain_of_thought" // others may write it more than once
	}
	return nil
}

func (i *info) inputs(p prompt) (map[string]any, *failure) {
	var needed []field
	history := ""
	for _, f := range i.Signature.Inputs {
		switch {
		case f.Type == "history" || f.Type == "dspy.History":
			history = f.Name
		case f.Required == nil || *f.Required:
			needed = append(needed, f)
		}
	}
	inputs := map[string]any{}
	if len(needed) == 1 && needed[0].text() {
		inputs[needed[0].Name] = p.question
	} else if json.Unmarshal([]byte(p.question), &inputs) != nil || inputs == nil {
		var names []string
		for _, f := range needed {
			names = append(names, f.Name)
		}
		return nil, invalid("messages", "invalid_value", "the program has other inputs than one text: the user's text must be a JSON object with %s", strings.Join(names, ", "))
	}
	if len(p.history) == 0 {
		return inputs, nil
	}
	if history == "" || len(needed) != 1 || len(i.Signature.Outputs) != 1 {
		return nil, invalid("messages", "unsupported_value", "the program takes no conversation: send one message of the user, or name a session")
	}
	inputs[history] = turns(p.history, needed[0].Name, i.Signature.Outputs[0].Name)
	return inputs, nil
}

func execute(ctx context.Context, c *dspex.Client, session, command string, args dspex.Args, options ...dspex.CallOption) (dspex.Reply, error) {
	if session == "" {
		return c.ExecuteAnonymous(ctx, command, args, options...)
	}
	return c.Execute(ctx, session, command, args, options...)
}

// answer reads the text of a reply.
func (m *plan) answer(r dspex.Reply) (string, error) {
	outputs := r.Outputs()
	if m.nested {
		outputs, _ = outputs["outputs"].(map[string]any)
	}
	if m.field != "" {
		if text, ok := outputs[m.field].(string); ok {
			return text, nil
		}
	}
	text, err := json.Marshal(outputs)
	if err != nil || outputs == nil {
		return "", &dspex.Error{Category: dspex.ErrCommunication, Code: dspex.CodeBadReply, Message: "the reply has no outputs"}
	}
	return string(text), nil
}

// used is the tokens of a reply, over all models.
type used struct{ prompt, completion int64 }

func usageOf(r dspex.Reply) (u used) {
	for _, counts := range r.Usage {
		of, _ := counts.(map[string]any)
		u.prompt += number(of["prompt_tokens"])
		u.completion += number(of["completion_tokens"])
	}
	return u
}

func number(v any) int64 {
	n, _ := v.(float64)
	return int64(n)
}
