package echolm

import (
	"fmt"
	"strings"
)

// form is the shape of answer that a prompt requests.
type form uint8

const (
	plainForm form = iota // no DSPy prompt: free text
	chatForm              // [[ ## name ## ]] sections
	jsonForm              // one JSON object
	xmlForm               // <name>value</name>
)

func (f form) String() string { return [...]string{"plain", "chat", "json", "xml"}[f] }

// The sentences of DSPy 3.4 that report what to answer; the last one in a user message is the adapter's, earlier ones can
// stand in an input.
const (
	chatRequest   = "Respond with the corresponding output fields, starting with the field `"
	jsonRequest   = "Respond with a JSON object in the following order of fields: `"
	xmlRequest    = "Respond with the corresponding output fields wrapped in XML tags `"
	objectiveLine = "In adhering to this structure, your objective is:"
	typePhrase    = " (must be formatted as a valid Python "
	toolsPhrase   = " (must be a JSON object like "
	headerStart   = "[[ ## "
	headerEnd     = " ## ]]"
)

// maxFields bounds the output fields of one request; a program has at most 64.
const maxFields = 256

// field is one output that the prompt requests.
type field struct {
	name      string
	schema    node
	toolCalls bool    // DSPy's ToolCalls: {"tool_calls": [...]}
	outline   outline // XML prompts only
}

var requestPhrases = []struct {
	form   form
	phrase string
}{{chatForm, chatRequest}, {jsonForm, jsonRequest}, {xmlForm, xmlRequest}}

// request finds the sentence that requests the answer and returns what stands before and behind its first backquote. It
// searches forwards: that is several times faster than strings.LastIndex.
func request(content string) (f form, before, wanted string) {
	const begin = "Respond with "
	before = content
	for i := 0; ; i += len(begin) {
		next := strings.Index(content[i:], begin)
		if next < 0 {
			return f, before, wanted
		}
		i += next
		for _, r := range requestPhrases {
			if strings.HasPrefix(content[i:], r.phrase) {
				f, before, wanted = r.form, content[:i], content[i+len(r.phrase):]
			}
		}
	}
}

var fieldQuotes = map[form][2]string{
	chatForm: {headerStart, headerEnd + "`"},
	jsonForm: {"", "`"},
	xmlForm:  {"<", ">`"},
}

// wantedFields reads the list of output fields in the sentence, from behind its first backquote.
func wantedFields(f form, wanted string) ([]field, error) {
	var fields []field
	quotes := fieldQuotes[f]
	for {
		rest, ok := strings.CutPrefix(wanted, quotes[0])
		name, rest, found := strings.Cut(rest, quotes[1])
		if !ok || !found || name == "" || len(name) > 256 || strings.ContainsAny(name, "\n`") {
			return nil, fmt.Errorf("the %s prompt must name output field %d", f, len(fields)+1)
		}
		if len(fields) == maxFields {
			return nil, fmt.Errorf("an echo answers at most %d output fields", maxFields)
		}
		out := field{name: name, schema: stringSchema}
		rest = out.readType(rest)
		fields = append(fields, out)
		if wanted, ok = strings.CutPrefix(rest, ", then `"); !ok {
			return fields, nil
		}
	}
}

// readType reads the remark in parentheses behind a name, if there is one, and returns what follows it.
func (f *field) readType(s string) string {
	if rest, ok := strings.CutPrefix(s, toolsPhrase); ok {
		f.toolCalls = true
		_, rest, _ = strings.Cut(rest, "})")
		return rest
	}
	rest, ok := strings.CutPrefix(s, typePhrase)
	if !ok {
		return s
	}
	if schema, after, ok := parseType(rest); ok && strings.HasPrefix(after, ")") {
		f.schema = schema
		return after[1:]
	}
	// A type of another shape: its schema may stand in the system message, and the list goes on behind its parenthesis.
	f.schema = obj(classKey, str(""))
	end := len(rest)
	for _, mark := range []string{"), then `", "), and then ending", ")."} {
		if i := strings.Index(rest[:end], mark); i >= 0 {
			end = i
		}
	}
	return rest[min(end+1, len(rest)):]
}

// section is one input of a user message.
type section struct{ name, text string }

// sections splits the text of a user message before the request for an answer. Names of inputs in XML prompts are taken as
// they come: the first element opens the first section.
func sections(f form, content string) []section {
	if f == xmlForm {
		return elements(content)
	}
	var out []section
	var name string
	start := -1
	for i := 0; i < len(content); {
		end := len(content)
		if j := strings.IndexByte(content[i:], '\n'); j >= 0 {
			end = i + j
		}
		if header, ok := headerName(content[i:end]); ok {
			if start >= 0 {
				out = append(out, section{name, strings.TrimSpace(content[start:i])})
			}
			name, start = header, end
		}
		i = end + 1
	}
	if start >= 0 {
		out = append(out, section{name, strings.TrimSpace(content[start:])})
	}
	return out
}

func headerName(line string) (string, bool) {
	rest, ok := strings.CutPrefix(line, headerStart)
	if !ok {
		return "", false
	}
	name, _, ok := strings.Cut(rest, headerEnd)
	return name, ok
}

// elements reads <name>, newline, text, newline, </name> one behind the other. DSPy escapes nothing in inputs, so the
// first closing tag on a line of its own ends a text.
func elements(content string) []section {
	var out []section
	for len(out) < 1000 {
		content = strings.TrimLeft(content, " \n")
		rest, ok := strings.CutPrefix(content, "<")
		name, rest, found := strings.Cut(rest, ">\n")
		if !ok || !found || strings.ContainsAny(name, "<\n ") {
			return out
		}
		value, rest, found := strings.Cut(rest, "\n</"+name+">")
		if !found {
			return out
		}
		out = append(out, section{name, strings.TrimSpace(value)})
		content = rest
	}
	return out
}

// outline is one element of the nested structure that an XML prompt shows; one without children shows "..." in its place.
type outline struct {
	name     string
	children []outline
}
