package openai

import (
	"net/http"
)

// Declare adds the paths to a mux.
func (s *Server) Declare(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/models", s.listModels)
	mux.HandleFunc("GET /v1/models/{model}", s.showModel)
	mux.HandleFunc("POST /v1/chat/completions", s.chat)
	mux.HandleFunc("POST /v1/responses", s.respond)
}
