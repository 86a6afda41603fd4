package mock

import (
	"fmt"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/wire"
)

// failure is the error of an attempt.
type failure struct {
	category, code, message, path, expected, hint string
	retryable                                     bool
}

func (f *failure) frame() frame.Frame {
	detail := map[string]any{"retryable": f.retryable}
	for name, text := range map[string]string{"path": f.path, "expected": f.expected, "hint": f.hint} {
		if text != "" {
			detail[name] = text
		}
	}
	return errorFrame(f.category, f.code, f.message, detail)
}

func badInput(path, expected, format string, args ...any) *failure {
	return &failure{category: "python", code: "bad_input", message: fmt.Sprintf(format, args...), path: path, expected: expected}
}

func errorFrame(category, code, message string, detail map[string]any) frame.Frame {
	raw, err := wire.Encode(detail)
	if err != nil {
		raw = nil // text and numbers always encode
	}
	return frame.Frame{Type: frame.Error, Body: frame.ErrorBody{Category: category, Code: code, Message: message, Detail: raw}.AppendBody(nil)}
}
