package openai

import (
	"crypto/rand"
	"encoding/json"
	"maps"
	"net/http"
	"strings"

	"github.com/dspex/dspex"
)

var responseKeys = keys("model", "input", "instructions", "stream", "stream_options", "temperature", "user", "store", "conversation", "previous_response_id")

type responseBody struct {
	Model         string          `json:"model"`
	Input         json.RawMessage `json:"input"`
	Instructions  string          `json:"instructions"`
	Stream        bool            `json:"stream"`
	StreamOptions struct {
		IncludeObfuscation *bool `json:"include_obfuscation"`
	} `json:"stream_options"`
	Temperature  *float64        `json:"temperature"`
	User         string          `json:"user"`
	Store        *bool           `json:"store"`
	Conversation json.RawMessage `json:"conversation"`
	Previous     string          `json:"previous_response_id"`
}

// responseID holds the session of a response, so that the next one goes on in it.
func responseID(job, session string) string { return "resp_" + job + "." + session }

func sessionOfResponse(id string) (string, *failure) {
	rest, ok := strings.CutPrefix(id, "resp_")
	_, session, dot := strings.Cut(rest, ".")
	if !ok || !dot || session == "" {
		return "", invalid("previous_response_id", "previous_response_not_found", "previous_response_id must be the id of a response that was stored")
	}
	return session, nil
}

func (b *responseBody) prompt(r *http.Request, c Caller) (prompt, *failure) {
	p := prompt{model: b.Model, system: b.Instructions, temperature: b.Temperature, stream: b.Stream}
	if b.Model == "" {
		return p, invalid("model", "missing_required_parameter", "model must be given: GET /v1/models lists them")
	}
	var text string
	var messages []inputMessage
	switch {
	case json.Unmarshal(b.Input, &text) == nil:
		p.question = text
	case json.Unmarshal(b.Input, &messages) == nil:
		if f := p.converse(messages, "input"); f != nil {
			return p, f
		}
	default:
		return p, invalid("input", "invalid_type", "input must be text or a list of messages")
	}
	return p, b.chooseSession(r, c, &p)
}

// chooseSession: a response that is stored, as it is by default, has a session, which the next one finds by its id.
func (b responseBody) chooseSession(r *http.Request, c Caller, p *prompt) *failure {
	named := map[string]string{}
	if len(b.Conversation) > 0 && string(b.Conversation) != "null" {
		var id string
		var object struct {
			ID string `json:"id"`
		}
		if json.Unmarshal(b.Conversation, &id) != nil && json.Unmarshal(b.Conversation, &object) != nil {
			return invalid("conversation", "invalid_type", "conversation must be an id, or an object with one")
		}
		if named["conversation"] = id + object.ID; named["conversation"] == "" {
			return invalid("conversation", "invalid_value", "conversation must name a session")
		}
	}
	if b.Previous != "" {
		session, f := sessionOfResponse(b.Previous)
		if f != nil {
			return f
		}
		named["previous_response_id"] = session
	}
	var f *failure
	if p.session, f = sessionFor(r, c, named, b.User); f != nil {
		return f
	}
	if p.session == "" && (b.Store == nil || *b.Store) {
		p.session = c.Prefix + "conv-" + rand.Text()
	}
	return nil
}

func (s *Server) respond(w http.ResponseWriter, r *http.Request) {
	var body responseBody
	s.serve(w, r, responseKeys, &body, body.prompt, func(p prompt, job dspex.JobRef) answer {
		return response{id: responseID(job.ID, p.session), job: job.ID, created: now(), prompt: p, previous: body.Previous, store: body.Store == nil || *body.Store}
	})
}

func (r response) streamTo(out events) sink { return &responseSink{events: out, response: r} }

func (r response) whole(text string, u used) any {
	return r.body("completed", []any{r.item("completed", text)}, u.response(), nil)
}

func (u used) response() map[string]any {
	return map[string]any{"input_tokens": u.prompt, "input_tokens_details": map[string]any{"cached_tokens": 0}, "output_tokens": u.completion,
		"output_tokens_details": map[string]any{"reasoning_tokens": 0}, "total_tokens": u.prompt + u.completion}
}

// response is what all events of an answer have in common.
type response struct {
	id, job  string
	created  int64
	prompt   prompt
	previous string
	store    bool
}

func (r response) body(status string, output []any, usage any, failure any) map[string]any {
	body := map[string]any{"id": r.id, "object": "response", "created_at": r.created, "status": status, "model": r.prompt.model, "output": output, "usage": usage, "error": failure,
		"instructions": orNull(r.prompt.system), "previous_response_id": orNull(r.previous), "temperature": r.prompt.temperature, "store": r.store, "incomplete_details": nil,
		"metadata": map[string]any{}, "parallel_tool_calls": true, "tool_choice": "auto", "tools": []any{}, "top_p": nil}
	if r.prompt.session != "" {
		body["conversation"] = map[string]any{"id": r.prompt.session}
	}
	return body
}

func textPart(text string) map[string]any {
	return map[string]any{"type": "output_text", "text": text, "annotations": []any{}, "logprobs": []any{}}
}

func (r response) item(status string, text string) map[string]any {
	content := []any{}
	if status == "completed" {
		content = append(content, textPart(text))
	}
	return map[string]any{"type": "message", "id": "msg_" + r.job, "status": status, "role": "assistant", "content": content}
}

// responseSink streams a response.
type responseSink struct {
	events
	response
	number int
}

func (s *responseSink) event(name string, fields map[string]any) error {
	all := map[string]any{"type": name, "sequence_number": s.number}
	maps.Copy(all, fields)
	s.number++
	return s.send(name, all)
}

// place is where the one text of a response stands.
func (s *responseSink) place(more map[string]any) map[string]any {
	all := map[string]any{"item_id": "msg_" + s.job, "output_index": 0, "content_index": 0}
	maps.Copy(all, more)
	return all
}

func (s *responseSink) begin() {
	s.events.begin()
	// The next write fails for a client that is gone.
	_ = s.event("response.created", map[string]any{"response": s.body("in_progress", []any{}, nil, nil)})
	_ = s.event("response.in_progress", map[string]any{"response": s.body("in_progress", []any{}, nil, nil)})
	_ = s.event("response.output_item.added", map[string]any{"output_index": 0, "item": s.item("in_progress", "")})
	_ = s.event("response.content_part.added", s.place(map[string]any{"part": textPart("")}))
}

func (s *responseSink) delta(text string) error {
	return s.event("response.output_text.delta", s.place(map[string]any{"delta": text, "logprobs": []any{}}))
}

func (s *responseSink) end(text string, u used) error {
	item := s.item("completed", text)
	_ = s.event("response.output_text.done", s.place(map[string]any{"text": text, "logprobs": []any{}}))
	_ = s.event("response.content_part.done", s.place(map[string]any{"part": textPart(text)}))
	_ = s.event("response.output_item.done", map[string]any{"output_index": 0, "item": item})
	return s.event("response.completed", map[string]any{"response": s.body("completed", []any{item}, u.response(), nil)})
}

func (s *responseSink) fail(f *failure) error {
	return s.event("response.failed", map[string]any{"response": s.body("failed", []any{}, nil, map[string]any{"code": f.Code, "message": f.Message})})
}
