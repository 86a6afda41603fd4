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
	s := &Surroundings{Log: slog.New(slog.NewTextHandler(&log, nil)), Metrics: newRegistry()}
	m := metricsEndpoint{address: "127.0.0.1:0"}
	stop, err := m.serve(s)
	if err != nil {
		t.Fatal(err)
	}
	url := regexp.MustCompile(`http://\S+/metrics`).FindString(log.String())
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
	taken := metricsEndpoint{address: strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/metrics")}
	if _, err := taken.serve(s); err == nil || !strings.Contains(err.Error(), "--metrics") {
		t.Errorf("a taken address: %v", err)
	}
	http.DefaultClient.CloseIdleConnections()
	stop()
	if _, err := net.Dial("tcp", taken.address); err == nil {
		t.Error("it listens after the end")
	}
}

func TestAMetricsAddressIsCheckedBeforeTheStart(t *testing.T) {
	for _, address := range []string{"9464", "localhost", "a:b:c"} {
		m := metricsEndpoint{address: address}
		if err := m.check(); err == nil || !strings.Contains(err.Error(), "HOST:PORT") {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, address := range []string{"", ":9464", "127.0.0.1:0", "[::1]:9464"} {
		m := metricsEndpoint{address: address}
		if err := m.check(); err != nil {
			t.Error(err)
		}
	}
}
