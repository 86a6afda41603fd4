package insight

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/dspex/dspex"
)

// ProcessOf is how people call the process of a line: a worker-host by its name.
func ProcessOf(l dspex.LogLine) string {
	switch l.Process {
	case "worker-host":
		return l.Name
	case l.Name:
		return l.Process
	}
	return l.Process + "/" + l.Name
}

// LineText is the message of a line and its fields; of what a worker wrote the text comes first.
func LineText(l dspex.LogLine) string {
	wrote := (l.Message == "worker_output" || l.Message == "worker_log") && l.Field("text") != ""
	parts := []string{l.Message}
	if wrote {
		parts[0] = l.Field("text")
	}
	for _, f := range l.Fields {
		if !wrote || f.Key != "text" {
			parts = append(parts, f.Key+"="+fieldText(f.Value))
		}
	}
	return strings.Join(parts, " ")
}

func fieldText(v any) string {
	text, ok := v.(string)
	if !ok {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if e.Encode(v) != nil {
			return fmt.Sprint(v)
		}
		text = strings.TrimSpace(b.String())
	}
	if text == "" || strings.ContainsAny(text, " \t\r\n") {
		return strconv.Quote(text)
	}
	return text
}
