package gateway_test

import (
	"regexp"
	"testing"

	"github.com/dspex/dspex/dspextest"
	"github.com/dspex/dspex/internal/gateway"
)

// untold are the parts of a reply that differ from call to call.
var untold = regexp.MustCompile(`"(queued_ms|run_ms)":[0-9.]+|[A-Z2-7]{26}`)

// TestTheShortcutAnswersAsHumaDoes sends each request twice: with a preference that nothing reads it takes the long way.
func TestTheShortcutAnswersAsHumaDoes(t *testing.T) {
	url := serve(t, dspextest.NewFake(t).Client(), gateway.Config{})
	for _, path := range []string{"/v1/jobs", "/v1/sessions/bob/jobs", "/v1/sessions/b%6Fb/jobs", "/v1/sessions/b.b/jobs", "/v1/sessions//jobs", "/v1/sessions/a/b/jobs"} {
		for _, body := range []string{
			"", `{}`, `[]`, `null`, `"x"`, `{"command":null}`, `{"command":1}`, `{"command":""}`, `{"command":"Echo"}`, `{"command":"echo "}`, `{"command":"1echo"}`,
			`{"command":"ec\u0068o"}`, `{"command":"echo"}`, `{"Command":"echo"}`, `{"command":"echo","args":null}`, `{"command":"echo","args":[]}`, `{"command":"echo","args":1}`,
			`{"command":"echo","args":{}}`, ` { "command" : "echo" , "args" : { "text" : "<&>", "n": 12345678901234567890, "f": 1.50, "o": {"b":1,"a":null} } } `,
			`{"command":"echo","args":{"x":1},"options":{}}`, `{"command":"echo","args":{"x":1},"options":null}`, `{"command":"echo","other":{}}`, `{"args":{"x":1}}`,
			`{"args":{"x":1},"options":{}}`, `{"command":"echo","args":{"x":1}}{}`, `{"command":"echo","args":{"a\u0062":[1,{"c":"}\\\"]"}],"d":true , "e":null,"f":-1.5e3,"g":"", "h":[ ] }}`,
			`{"args":{"session_id":"ann"},"command":"cleanup_session"}`, `{"args":{"session_id":"ann"},"command":"get_session_data"}`, "\r\n{\t\"args\":{ },\n\"command\":\"echo\"}\n", `{"command":"nothing_of_that_name"}`, `{"command":"echo","args":{"x":"` + "\xff" + `"}}`,
		} {
			for _, header := range []string{"X-None: 1", "Idempotency-Key: no!", "Idempotency-Key: q1", "Accept: text/html", "Content-Type: text/plain", "Content-Type: application/json; charset=utf-8"} {
				short, long := send(t, "POST", url+path, body, header), send(t, "POST", url+path, body, header, "Prefer: handling=strict")
				if short.StatusCode != long.StatusCode || untold.ReplaceAllString(short.text, "") != untold.ReplaceAllString(long.text, "") {
					t.Errorf("%s %s %q:\nshort %d %s\nlong  %d %s", path, body, header, short.StatusCode, short.text, long.StatusCode, long.text)
				}
				for _, name := range []string{"Content-Type", "Dspex-Attempt", "Retry-After", "Cache-Control", "X-Content-Type-Options", "Location"} {
					if a, b := short.Header.Get(name), long.Header.Get(name); a != b {
						t.Errorf("%s %s %q: %s must be %q, got %q", path, body, header, name, b, a)
					}
				}
				if (short.Header.Get("Dspex-Job") == "") != (long.Header.Get("Dspex-Job") == "") {
					t.Errorf("%s %s %q: Dspex-Job: %v, %v", path, body, header, short.Header, long.Header)
				}
			}
		}
	}
}
