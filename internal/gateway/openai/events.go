package openai

import (
	"encoding/json"
	"net/http"
)

// events writes server-sent events.
type events struct {
	w     http.ResponseWriter
	flush *http.ResponseController
}

func newEvents(w http.ResponseWriter) events { return events{w, http.NewResponseController(w)} }

func (e events) begin() {
	e.w.Header().Set("Content-Type", "text/event-stream")
	e.w.WriteHeader(http.StatusOK)
}

// send writes one event; without a name it is data alone.
func (e events) send(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	text := "data: " + string(data) + "\n\n"
	if name != "" {
		text = "event: " + name + "\n" + text
	}
	return e.raw(text)
}

func (e events) raw(text string) error {
	if _, err := e.w.Write([]byte(text)); err != nil {
		return err
	}
	return e.flush.Flush()
}

func (e events) alive() error { return e.raw(": \n\n") }
