package gateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dspex/dspex/dspextest"
	"github.com/dspex/dspex/internal/gateway"
)

const asEvents = "Accept: text/event-stream"

// events are those of a stream: id, name and data of each.
func events(text string) (all [][3]string) {
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		var e [3]string
		for line := range strings.Lines(block) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			switch name {
			case "id":
				e[0] = value
			case "event":
				e[1] = value
			case "data":
				e[2] = value
			}
		}
		all = append(all, e)
	}
	return all
}

func TestPartialOutputComesAsEventsAndTheReplyAsTheLast(t *testing.T) {
	url := serve(t, dspextest.NewFake(t).Client(), gateway.Config{})
	for _, path := range []string{"/v1/sessions/bob/jobs", "/v1/jobs"} {
		a := send(t, "POST", url+path, `{"command":"predict","args":{"question":"one <two>\nthree"}}`, asEvents, "Idempotency-Key: k1")
		got := events(a.text)
		switch {
		case a.StatusCode != 200:
			t.Fatalf("a.StatusCode must be 200, got %v; %d %v %q", a.StatusCode, a.StatusCode, a.Header, a.text)
		case a.Header.Get("Content-Type") != "text/event-stream":
			t.Fatalf(`a.Header.Get("Content-Type") must be "text/event-stream", got %v; %d %v %q`, a.Header.Get("Content-Type"), a.StatusCode, a.Header, a.text)
		case a.Header.Get("Dspex-Job") != "k1":
			t.Fatalf(`a.Header.Get("Dspex-Job") must be "k1", got %v; %d %v %q`, a.Header.Get("Dspex-Job"), a.StatusCode, a.Header, a.text)
		case len(got) != 3:
			t.Fatalf("len(got) must be 3, got %v; %d %v %q", len(got), a.StatusCode, a.Header, a.text)
		}
		if want := [3]string{"1.0", "partial", `{"attempt":1,"n":0,"field":"answer","chunk":"one "}`}; got[0] != want {
			t.Errorf("%q", got[0])
		}
		if want := [3]string{"1.1", "partial", `{"attempt":1,"n":1,"field":"answer","chunk":"<two>\nthree"}`}; got[1] != want {
			t.Errorf("%q", got[1])
		}
		var reply struct{ Result struct{ Answer string } }
		switch err := json.Unmarshal([]byte(got[2][2]), &reply); {
		case err != nil:
			t.Errorf("err must be nil, got %v; %q %v", err, got[2], err)
		case got[2][0] != "end":
			t.Errorf(`got[2][0] must be "end", got %v; %q %v`, got[2][0], got[2], err)
		case got[2][1] != "reply":
			t.Errorf(`got[2][1] must be "reply", got %v; %q %v`, got[2][1], got[2], err)
		case reply.Result.Answer != "one <two>\nthree":
			t.Errorf(`reply.Result.Answer must be "one <two>\nthree", got %v; %q %v`, reply.Result.Answer, got[2], err)
		}
	}
}

func TestAStreamGoesOnBehindTheLastEvent(t *testing.T) {
	fake := dspextest.NewFake(t)
	url := serve(t, fake.Client(), gateway.Config{})
	const path, body = "/v1/sessions/bob/jobs", `{"command":"predict","args":{"question":"a b c"}}`
	send(t, "POST", url+path, body, asEvents, "Idempotency-Key: k1")
	for _, c := range []struct {
		method, path, body, last string
		want                     string
	}{
		{"GET", "/v1/jobs/k1/events?session=bob", "", "", "1.0 1.1 1.2 end"},
		{"GET", "/v1/jobs/k1/events?session=bob", "", "1.0", "1.1 1.2 end"},
		{"GET", "/v1/jobs/k1/events?session=bob", "", "1.2", "end"},
		{"POST", path, body, "1.1", "1.2 end"},
	} {
		headers := []string{asEvents, "Idempotency-Key: k1"}
		if c.last != "" {
			headers = append(headers, "Last-Event-ID: "+c.last)
		}
		a := send(t, c.method, url+c.path, c.body, headers...)
		var ids []string
		for _, e := range events(a.text) {
			ids = append(ids, e[0])
		}
		if got := strings.Join(ids, " "); a.StatusCode != 200 || got != c.want {
			t.Errorf("%s behind %q: %d %q", c.method, c.last, a.StatusCode, got)
		}
	}
	if n := len(fake.Jobs()); n != 1 {
		t.Errorf("%d jobs ran", n)
	}
	if a := send(t, "GET", url+"/v1/jobs/k1/events?session=bob", "", "Last-Event-ID: end"); a.StatusCode != 204 {
		t.Errorf("behind the end: %d %s", a.StatusCode, a.text)
	}
}

func TestAStreamOfWhichTheGatewayHasNothingIsItsEnd(t *testing.T) {
	url := serve(t, dspextest.NewFake(t).Client(), gateway.Config{})
	send(t, "POST", url+"/v1/sessions/bob/jobs", `{"command":"predict","args":{"question":"a b"}}`, "Idempotency-Key: k1")
	got := events(send(t, "GET", url+"/v1/jobs/k1/events?session=bob", "").text)
	if len(got) != 1 || got[0][1] != "reply" {
		t.Errorf("%q", got)
	}
	send(t, "POST", url+"/v1/jobs", `{"command":"boom"}`, "Idempotency-Key: k2")
	got = events(send(t, "GET", url+"/v1/jobs/k2/events", "").text)
	if len(got) != 1 || got[0][1] != "problem" || !strings.Contains(got[0][2], `"code":"user_error"`) {
		t.Errorf("%q", got)
	}
}

func TestStreamsThatAreNotOfTheContractAreRefused(t *testing.T) {
	url := serve(t, dspextest.NewFake(t).Client(), gateway.Config{})
	for _, c := range []struct {
		method, path, body, header string
		status                     int
		code, at                   string
	}{
		{"POST", "/v1/jobs", `{"command":"boom"}`, "X-None: 1", 422, "user_error", ""},
		{"POST", "/v1/jobs?wait=false", `{"command":"echo"}`, "X-None: 1", 400, "bad_option", "header.Accept"},
		{"POST", "/v1/jobs", `{"command":"echo"}`, "Last-Event-ID: 7", 400, "bad_header", "header.Last-Event-ID"},
		{"GET", "/v1/jobs/nope/events", "", "X-None: 1", 404, "job_unknown", ""},
		{"GET", "/v1/jobs/nope/events", "", "Last-Event-ID: -1.2", 400, "bad_header", "header.Last-Event-ID"},
	} {
		a := send(t, c.method, url+c.path, c.body, asEvents, c.header)
		at, _ := a.body["path"].(string)
		switch {
		case a.StatusCode != c.status:
			t.Errorf("a.StatusCode: got %v, want %v; %s %s %s: %d %s", a.StatusCode, c.status, c.method, c.path, c.header, a.StatusCode, a.text)
		case a.body["code"] != c.code:
			t.Errorf(`a.body["code"]: got %v, want %v; %s %s %s: %d %s`, a.body["code"], c.code, c.method, c.path, c.header, a.StatusCode, a.text)
		case at != c.at:
			t.Errorf("at: got %v, want %v; %s %s %s: %d %s", at, c.at, c.method, c.path, c.header, a.StatusCode, a.text)
		case a.Header.Get("Content-Type") != "application/problem+json":
			t.Errorf(`a.Header.Get("Content-Type") must be "application/problem+json", got %v; %s %s %s: %d %s`, a.Header.Get("Content-Type"), c.method, c.path, c.header, a.StatusCode, a.text)
		}
	}
}

func TestAClientThatLeavesAStreamCancelsItsJobOnlyIfItAskedForThat(t *testing.T) {
	leaves(t, asEvents)
}

// A client that does not read is left when one write has waited long enough; what was kept for it is the feed, which is bounded.
func TestAClientThatNeverReadsIsLeft(t *testing.T) {
	fake := dspextest.NewFake(t)
	registry := prometheus.NewRegistry()
	g, err := gateway.New(fake.Client(), gateway.Config{WriteTime: 50 * time.Millisecond}, registry)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	handler := g.Handler(registry)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(w, r)
		if r.Method == "POST" {
			close(ended)
		}
	}))
	s.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		_ = c.(*net.TCPConn).SetWriteBuffer(4096)
		return ctx
	}
	s.Start()
	t.Cleanup(func() { s.Close(); g.Close() })
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.(*net.TCPConn).SetReadBuffer(4096)
	body := `{"command":"predict","args":{"question":"` + strings.Repeat(strings.Repeat("x", 999)+" ", 200) + `"}}`
	w := bufio.NewWriter(conn)
	for _, part := range []string{"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n", asEvents, "\r\nContent-Length: ", itoa(len(body)), "\r\n\r\n", body} {
		w.WriteString(part)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	<-ended
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }
