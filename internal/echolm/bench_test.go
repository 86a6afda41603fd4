package echolm

import (
	"net/http/httptest"
	"strings"
	"testing"
)

// BenchmarkRequest is one request without the socket: parse the body, read the prompt, write the answer.
func BenchmarkRequest(b *testing.B) {
	s := newServer(Config{})
	for name, body := range prompts(b) {
		if name != "chat" && name != "json_schema" && name != "chat_third_turn" {
			continue
		}
		for _, stream := range []string{"whole", "stream"} {
			text := body
			if stream == "stream" {
				text = strings.Replace(body, "{", `{"stream": true,`, 1)
			}
			b.Run(name+"/"+stream, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					w := httptest.NewRecorder()
					s.ServeHTTP(w, httptest.NewRequest("POST", "/v1/chat/completions", strings.NewReader(text)))
					if w.Code != 200 {
						b.Fatal(w.Body)
					}
				}
			})
		}
	}
}
