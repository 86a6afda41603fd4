package openai

import (
	"net/http"

	"github.com/dspex/dspex"
)

var chatKeys = keys("model", "messages", "stream", "stream_options", "temperature", "user", "store")

type chatBody struct {
	Model         string         `json:"model"`
	Messages      []inputMessage `json:"messages"`
	Stream        bool           `json:"stream"`
	StreamOptions struct {
		IncludeUsage       bool  `json:"include_usage"`
		IncludeObfuscation *bool `json:"include_obfuscation"`
	} `json:"stream_options"`
	Temperature *float64 `json:"temperature"`
	User        string   `json:"user"`
	Store       bool     `json:"store"`
}

func (b *chatBody) prompt(r *http.Request, c Caller) (prompt, *failure) {
	p := prompt{model: b.Model, temperature: b.Temperature, stream: b.Stream, usage: b.StreamOptions.IncludeUsage}
	if b.Model == "" {
		return p, invalid("model", "missing_required_parameter", "model must be given: GET /v1/models lists them")
	}
	if b.Store {
		return p, invalid("store", "unsupported_value", "store must be false: completions are not stored")
	}
	if f := p.converse(b.Messages, "messages"); f != nil {
		return p, f
	}
	var f *failure
	p.session, f = sessionFor(r, c, nil, b.User)
	return p, f
}

func (s *Server) chat(w http.ResponseWriter, r *http.Request) {
	var body chatBody
	s.serve(w, r, chatKeys, &body, body.prompt, func(p prompt, job dspex.JobRef) answer {
		return chatAnswer{id: "chatcmpl-" + job.ID, created: now(), model: p.model, usage: p.usage}
	})
}

// chatAnswer is what all parts of an answer have in common.
type chatAnswer struct {
	id      string
	created int64
	model   string
	usage   bool // at the end of a stream, too
}

func (c chatAnswer) streamTo(out events) sink { return &chatSink{out, c} }

func (c chatAnswer) with(object string, choices []any, u any) map[string]any {
	return map[string]any{"id": c.id, "object": object, "created": c.created, "model": c.model, "choices": choices, "usage": u}
}

func (c chatAnswer) whole(text string, u used) any {
	message := map[string]any{"role": "assistant", "content": text, "refusal": nil}
	return c.with("chat.completion", []any{map[string]any{"index": 0, "message": message, "finish_reason": "stop", "logprobs": nil}}, u.chat())
}

func (u used) chat() map[string]any {
	return map[string]any{"prompt_tokens": u.prompt, "completion_tokens": u.completion, "total_tokens": u.prompt + u.completion}
}

// chatSink streams a completion.
type chatSink struct {
	events
	chatAnswer
}

func (s *chatSink) chunk(delta map[string]any, finish any) error {
	return s.send("", s.with("chat.completion.chunk", []any{map[string]any{"index": 0, "delta": delta, "finish_reason": finish}}, nil))
}

func (s *chatSink) begin() {
	s.events.begin()
	_ = s.chunk(map[string]any{"role": "assistant", "content": ""}, nil) // the next write fails for a client that is gone
}

func (s *chatSink) delta(text string) error { return s.chunk(map[string]any{"content": text}, nil) }

func (s *chatSink) end(_ string, u used) error {
	if err := s.chunk(map[string]any{}, "stop"); err != nil {
		return err
	}
	if s.usage {
		if err := s.send("", s.with("chat.completion.chunk", []any{}, u.chat())); err != nil {
			return err
		}
	}
	return s.raw("data: [DONE]\n\n")
}

func (s *chatSink) fail(f *failure) error { return s.send("", f.body()) }
