package openai

import (
	"encoding/json"
	"strconv"
	"strings"
)

// inputMessage is one of a conversation.
type inputMessage struct {
	Type    string          `json:"type"` // of responses; "" or message
	ID      string          `json:"id"`
	Status  string          `json:"status"`
	Role    string          `json:"role"`
	Content json.RawMessage `json:"content"`
	Name    string          `json:"name"`
	Refusal json.RawMessage `json:"refusal"`
}

// textOf is the text of a content: text, or a list of parts that are texts.
func textOf(content json.RawMessage, at string) (string, *failure) {
	var text string
	if json.Unmarshal(content, &text) == nil {
		return text, nil
	}
	var parts []struct {
		Type string  `json:"type"`
		Text *string `json:"text"`
	}
	if json.Unmarshal(content, &parts) != nil || len(parts) == 0 {
		return "", invalid(at, "invalid_type", "%s must be text, or a list of parts with text", at)
	}
	var all strings.Builder
	for i, p := range parts {
		if p.Type != "text" && p.Type != "input_text" && p.Type != "output_text" || p.Text == nil {
			part := at + "[" + strconv.Itoa(i) + "].type"
			return "", invalid(part, "unsupported_value", "%s must be a text, got %q: images, files and audio are not supported", part, p.Type)
		}
		if i > 0 {
			all.WriteByte('\n')
		}
		all.WriteString(*p.Text)
	}
	return all.String(), nil
}

// converse reads messages: the system's first, then user and assistant in turn, the user's last. Several of one role in a row are one.
func (p *prompt) converse(messages []inputMessage, of string) *failure {
	var last string // role of the latest turn's latest message
	for i, m := range messages {
		at := of + "[" + strconv.Itoa(i) + "]"
		if m.Type != "" && m.Type != "message" {
			return invalid(at+".type", "unsupported_value", "%s.type must be message, got %q", at, m.Type)
		}
		text, f := textOf(m.Content, at+".content")
		if f != nil {
			return f
		}
		switch {
		case (m.Role == "system" || m.Role == "developer") && last == "":
			p.system = joined(p.system, text)
			continue
		case m.Role == "user" && last == "assistant", m.Role == "user" && last == "":
			p.history = append(p.history, turn{question: text})
		case m.Role == "user":
			t := &p.history[len(p.history)-1]
			t.question = joined(t.question, text)
		case m.Role == "assistant" && last != "":
			t := &p.history[len(p.history)-1]
			t.answer = joined(t.answer, text)
		default:
			return invalid(at+".role", "unsupported_value", "%s.role must be system or developer before all others, then user and assistant, beginning with user; got %q", at, m.Role)
		}
		last = m.Role
	}
	if last != "user" {
		return invalid(of, "invalid_value", "the last of %s must be the user's", of)
	}
	end := len(p.history) - 1
	p.question, p.history = p.history[end].question, p.history[:end]
	return nil
}

func joined(a, b string) string {
	if a == "" {
		return b
	}
	return a + "\n\n" + b
}
