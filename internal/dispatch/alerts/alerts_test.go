package alerts

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// hook is an endpoint that answers with one status after the other, the last one for ever.
type hook struct {
	mu       sync.Mutex
	statuses []int
	bodies   chan string
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	h.mu.Lock()
	status := h.statuses[0]
	if len(h.statuses) > 1 {
		h.statuses = h.statuses[1:]
	}
	h.mu.Unlock()
	w.Header().Set("Location", "/elsewhere")
	w.WriteHeader(status)
	h.bodies <- r.Method + " " + r.URL.Path + " " + r.Header.Get("Content-Type") + " " + string(body)
}

func TestAWebhookIsTriedThreeTimesFollowsNobodyAndTellsNoSecret(t *testing.T) {
	for name, c := range map[string]struct {
		statuses []int
		calls    int
		said     string
	}{
		"well":       {[]int{204}, 1, ""},
		"once ill":   {[]int{500, 200}, 2, ""},
		"ill":        {[]int{503}, 3, "the answer has status 503"},
		"redirected": {[]int{302}, 3, "the answer has status 302"},
	} {
		t.Run(name, func(t *testing.T) {
			h := &hook{statuses: c.statuses, bodies: make(chan string, 10)}
			s := httptest.NewServer(h)
			defer s.Close()
			said := deliver(t, s.URL+"/hook?token=secret")
			close(h.bodies)
			calls := 0
			for body := range h.bodies {
				calls++
				if body != `POST /hook application/json {"event":"x"}` {
					t.Errorf("it got %s", body)
				}
			}
			switch {
			case calls != c.calls:
				t.Errorf("calls: got %v, want %v; %d calls, log %q", calls, c.calls, calls, said)
			case !strings.Contains(said, c.said):
				t.Errorf("must hold: strings.Contains(said, c.said); %d calls, log %q", calls, said)
			case c.said == "" && said != "":
				t.Errorf(`must not hold: c.said == "" && said != ""; %d calls, log %q`, calls, said)
			case strings.Contains(said, "secret"):
				t.Errorf(`must not hold: strings.Contains(said, "secret"); %d calls, log %q`, calls, said)
			}
		})
	}
	if said := deliver(t, "http://127.0.0.1:1/hook?token=secret"); !strings.Contains(said, "refused") || strings.Contains(said, "secret") || strings.Contains(said, "hook?") {
		t.Errorf("nobody there: %s", said)
	}
}

// deliver posts one alert and returns what was logged.
func deliver(t *testing.T, address string) string {
	t.Helper()
	var said bytes.Buffer
	w := newWebhook(address, slog.New(slog.NewTextHandler(&said, nil)))
	w.pause = time.Millisecond
	if err := w.insist(t.Context(), []byte(`{"event":"x"}`)); err != nil {
		w.log.Error("alert_not_sent", "error", err)
	}
	return said.String()
}

func TestAWebhookThatHangsHoldsNobodyUp(t *testing.T) {
	var said bytes.Buffer
	w := newWebhook("http://127.0.0.1:1", slog.New(slog.NewTextHandler(&said, nil)))
	for range webhookQueue + 1 { // nobody runs it
		w.post([]byte("{}"))
	}
	if n := strings.Count(said.String(), "too many alerts wait"); n != 1 {
		t.Errorf("%d alerts were dropped: %s", n, said.String())
	}
}

func TestWrongAlertsSayEverythingAtOnceAndNoSecret(t *testing.T) {
	err := Config{ErrorRate: 5, Destinations: []string{"pager", Webhook}, Webhook: "ftp://x/secret"}.Check()
	for _, want := range []string{"--error-rate-threshold must be more than 0 and at most 1, got 5", `--alert-destinations must be some of logger, telemetry, webhook, got "pager"`, "--alert-webhook must be"} {
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	for _, a := range []Config{{ErrorRate: 1, Destinations: []string{Webhook}}, {ErrorRate: 1, Webhook: "http://x"}} {
		if a.Check() == nil {
			t.Errorf("%+v is accepted", a)
		}
	}
	var a Config
	a.Flags(pflag.NewFlagSet("", pflag.ContinueOnError))
	if err := a.Check(); err != nil || a.ErrorRate != 0.05 || strings.Join(a.Destinations, " ") != "logger telemetry" {
		t.Errorf("%+v %v", a, err)
	}
}
