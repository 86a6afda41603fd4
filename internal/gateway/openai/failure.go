package openai

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/contract"
)

// failure is an error in OpenAI's form.
type failure struct {
	status int
	after  time.Duration

	Message string `json:"message"`
	Type    string `json:"type"`
	Param   string `json:"param"`
	Code    string `json:"code"`
}

func invalid(param, code, format string, args ...any) *failure {
	return &failure{status: http.StatusBadRequest, Type: typeOf(http.StatusBadRequest), Param: param, Code: code, Message: fmt.Sprintf(format, args...)}
}

// typeOf is OpenAI's kind of error for a status.
func typeOf(status int) string {
	switch {
	case status == http.StatusUnauthorized:
		return "authentication_error"
	case status == http.StatusTooManyRequests:
		return "rate_limit_error"
	case status >= http.StatusInternalServerError:
		return "server_error"
	}
	return "invalid_request_error"
}

// failed is the failure of an error of the client.
func failed(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	e, ok := errors.AsType[*dspex.Error](err)
	if !ok {
		e = &dspex.Error{Category: dspex.ErrSystem, Code: contract.CodeBug, Message: "the gateway failed"}
	}
	status := contract.Number(string(e.Category), e.Code)
	f := &failure{status: status, after: e.RetryAfter, Type: typeOf(status), Param: e.Path, Code: e.Code, Message: e.Message}
	f.Param = strings.TrimPrefix(f.Param, "options.") // these are parameters of the request
	if e.Code == dspex.CodeClientCancelled {          // the client of the gateway went away
		f.status = contract.Number("", contract.CodeCancelled)
		f.Type = typeOf(f.status)
	}
	if e.Expected != "" {
		f.Message += ": must be " + e.Expected
	}
	if e.Code == "lm_unknown" || e.Code == "program_unknown" {
		f.status, f.Param, f.Code, f.Type = http.StatusNotFound, "model", "model_not_found", typeOf(http.StatusNotFound)
	}
	return f
}

func (f *failure) Error() string { return f.Code + ": " + f.Message }

// body is how the error stands in an answer. What is empty is null there.
func (f *failure) body() map[string]any {
	return map[string]any{"error": map[string]any{"message": f.Message, "type": f.Type, "param": orNull(f.Param), "code": orNull(f.Code)}}
}

func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

func (f *failure) write(w http.ResponseWriter) {
	if f.after > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(int64((f.after+time.Second-1)/time.Second), 10))
	}
	writeJSON(w, f.status, f.body())
}

// Refuse answers with an error in OpenAI's form.
func Refuse(w http.ResponseWriter, status int, code, param, message string) {
	(&failure{status: status, Type: typeOf(status), Param: param, Code: cmp.Or(code, "error"), Message: message}).write(w)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that went away needs no answer
}
