package echolm

import (
	"net/http"
)

// The values of frequent headers; shared, so that a request allocates none.
var (
	echoHeader   = []string{"1"}
	jsonHeader   = []string{"application/json"}
	eventsHeader = []string{"text/event-stream"}
	noStore      = []string{"no-store"}
)

// setHeader sets a header whose key is in canonical form already.
func setHeader(w http.ResponseWriter, key string, value []string) { w.Header()[key] = value }

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	setHeader(w, "Content-Type", jsonHeader)
	w.WriteHeader(status)
	// A client that has gone gets no error.
	_, _ = w.Write(body)
}

func errorBody(kind, code, message string) []byte {
	b := appendQuoted([]byte(`{"error":{"message":`), message)
	b = appendQuoted(append(b, `,"type":`...), kind)
	b = appendQuoted(append(b, `,"code":`...), code)
	return append(b, "}}"...)
}
