package echolm

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Message is one message of a prompt as the model saw it, with the text of all its parts joined.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// conversation is a request body of any of the three endpoints, brought to one shape.
type conversation struct {
	model        string
	messages     []Message
	tools        []tool // native ones
	toolChoice   string // "", "none", "auto", "required" or the name of a tool
	schema       *node  // of response_format json_schema
	jsonObject   bool   // response_format json_object
	stream       bool
	includeUsage bool
	choices      int
	outputs      func(inputs map[string]string) map[string]any // of the server's Config
}

// maxChoices bounds `n`: the answers are all the same.
const maxChoices = 16

func parseBody(body string) (*node, error) {
	n, err := parseJSON(body)
	if err != nil {
		return nil, fmt.Errorf("the body must be JSON of a supported form: %w", err)
	}
	if n.kind != object {
		return nil, errors.New("the body must be a JSON object")
	}
	return &n, nil
}

// newConversation reads what the three endpoints have in common.
func newConversation(body *node) conversation {
	c := conversation{model: body.str("model"), stream: body.true("stream"), choices: 1}
	c.includeUsage = body.get("stream_options").true("include_usage")
	if n := body.get("n"); n != nil && n.kind == number {
		if v, ok := integer(n); ok {
			c.choices = int(max(1, min(v, maxChoices)))
		}
	}
	return c
}

// parseChat reads the body of POST /chat/completions.
func parseChat(body *node) (conversation, error) {
	c := newConversation(body)
	if err := c.addMessages(body.get("messages"), "messages"); err != nil {
		return c, err
	}
	if format := body.get("response_format"); format != nil {
		c.jsonObject = format.str("type") == "json_object"
		c.schema = format.get("json_schema").get("schema")
	}
	c.addTools(body.get("tools"))
	if choice := body.get("tool_choice"); choice != nil && choice.kind == text {
		c.toolChoice = choice.text
	} else {
		c.toolChoice = choice.get("function").str("name")
	}
	return c, nil
}

// parseResponses reads the body of POST /responses.
func parseResponses(body *node) (conversation, error) {
	c := newConversation(body)
	if s := body.str("instructions"); s != "" {
		c.messages = append(c.messages, Message{"system", s})
	}
	input := body.get("input")
	if input != nil && input.kind == text {
		c.messages = append(c.messages, Message{"user", input.text})
	} else if err := c.addMessages(input, "input"); err != nil {
		return c, err
	}
	if format := body.get("text").get("format"); format != nil {
		c.jsonObject = format.str("type") == "json_object"
		c.schema = format.get("schema")
	}
	return c, nil
}

// parseCompletion reads the body of POST /completions. DSPy joins system message and turns into one prompt there: the
// last line of the system message parts them again.
func parseCompletion(body *node) (conversation, error) {
	c := newConversation(body)
	prompt := body.str("prompt")
	if prompt == "" {
		return c, errors.New("prompt must be a text that is not empty")
	}
	if i := strings.LastIndex(prompt, objectiveLine); i >= 0 {
		if j := strings.IndexAny(prompt[i:], "[<"); j >= 0 {
			c.messages = append(c.messages, Message{"system", prompt[:i+j]})
			prompt = prompt[i+j:]
		}
	}
	c.messages = append(c.messages, Message{"user", prompt})
	return c, nil
}

func (c *conversation) addMessages(messages *node, key string) error {
	if messages.empty() || messages.kind != list {
		return fmt.Errorf("%s must be a list of messages that is not empty", key)
	}
	for i := range messages.items {
		m := &messages.items[i]
		if m.kind != object {
			return fmt.Errorf("%s[%d] must be an object with role and content", key, i)
		}
		role := m.str("role")
		if role == "" && m.str("type") == "function_call_output" {
			role = "tool"
		}
		content := m.get("content")
		if content == nil {
			content = m.get("output")
		}
		c.messages = append(c.messages, Message{role, contentText(content)})
	}
	return nil
}

// contentText joins the texts of a content that is a text or a list of parts; other parts have nothing to echo.
func contentText(n *node) string {
	if n == nil || n.kind == text {
		if n == nil {
			return ""
		}
		return n.text
	}
	if len(n.items) == 1 {
		return n.items[0].str("text")
	}
	var b strings.Builder
	for i := range n.items {
		b.WriteString(n.items[i].str("text"))
	}
	return b.String()
}

func (c *conversation) addTools(tools *node) {
	if tools == nil {
		return
	}
	for i := range tools.items {
		function := tools.items[i].get("function")
		if name := function.str("name"); name != "" {
			c.tools = append(c.tools, tool{name: name, schema: function.get("parameters")})
		}
	}
}

// system returns the system message, "" if there is none.
func (c *conversation) system() string {
	for _, m := range c.messages {
		if m.Role == "system" || m.Role == "developer" {
			return m.Content
		}
	}
	return ""
}

// lastUser returns the index of the last user message; without any, of the last message.
func (c *conversation) lastUser() int {
	for i, v := range slices.Backward(c.messages) {
		if v.Role == "user" {
			return i
		}
	}
	return len(c.messages) - 1
}
