package daemon

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

func TestMetricsAreServedWhereTheOperatorSays(t *testing.T) {
	var log bytes.Buffer
	r, logger := NewRegistry(), slog.New(slog.NewTextHandler(&log, nil))
	m := Metrics{Address: "127.0.0.1:0"}
	url, stop, err := m.Serve(r, logger)
	if err != nil {
		t.Fatal(err)
	}
	if logged := regexp.MustCompile(`http://\S+/metrics`).FindString(log.String()); logged != url {
		t.Errorf("the log says %q, it is %q", logged, url)
	}
	get := func(method, url string) (int, string) {
		ask, err := http.NewRequestWithContext(t.Context(), method, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(ask)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(body)
	}
	if status, body := get("GET", url); status != 200 || !strings.Contains(body, "go_goroutines ") || !strings.Contains(body, "process_start_time_seconds ") {
		t.Errorf("status %d: %.200s", status, body)
	}
	for _, c := range []struct{ method, url string }{{"POST", url}, {"GET", strings.TrimSuffix(url, "metrics")}, {"GET", url + "/x"}} {
		if status, _ := get(c.method, c.url); status != 404 && status != 405 {
			t.Errorf("%s %s: status %d", c.method, c.url, status)
		}
	}
	taken := Metrics{Address: strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/metrics")}
	if _, _, err := taken.Serve(r, logger); err == nil || !strings.Contains(err.Error(), "--metrics") {
		t.Errorf("a taken address: %v", err)
	}
	http.DefaultClient.CloseIdleConnections()
	stop()
	if _, err := net.Dial("tcp", taken.Address); err == nil {
		t.Error("it listens after the end")
	}
}

func TestAMetricsAddressIsCheckedBeforeTheStart(t *testing.T) {
	for _, address := range []string{"9464", "localhost", "a:b:c"} {
		m := Metrics{Address: address}
		if err := m.Check(); err == nil || !strings.Contains(err.Error(), "HOST:PORT") {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, address := range []string{"", ":9464", "127.0.0.1:0", "[::1]:9464"} {
		m := Metrics{Address: address}
		if err := m.Check(); err != nil {
			t.Error(err)
		}
	}
}
