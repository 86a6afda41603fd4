package gateway_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/dspextest"
	"github.com/dspex/dspex/internal/gateway"
	"github.com/dspex/dspex/internal/stream"
)

// muchText is more than a reply may have, and more than a request.
var muchText = strings.Repeat("much text ", 70<<10)

// answerOf is the answer in a reply.
func answerOf(t *testing.T, reply any) string {
	t.Helper()
	text, err := json.Marshal(reply)
	if err != nil {
		t.Fatal(err)
	}
	var r struct{ Result struct{ Answer string } }
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	return r.Result.Answer
}

func TestLargeArgumentsAndResultsPassTheGatewayWhole(t *testing.T) {
	d := dspextest.Open(t, dspextest.WithMode(dspextest.MockAdapter),
		dspextest.WithScenario(dspextest.Rule{Command: "predict", Where: map[string]any{"question": muchText}, Outputs: map[string]any{"answer": muchText}}))
	url := serve(t, d.Client(), gateway.Config{})
	body := `{"command":"predict","args":{"question":"` + muchText + `"}}`

	a := send(t, "POST", url+"/v1/jobs", body, "Idempotency-Key: waits")
	if a.StatusCode != 200 || answerOf(t, a.body) != muchText || a.body["result_object"] != nil {
		t.Errorf("a call: %d %.300s", a.StatusCode, a.text)
	}
	a = send(t, "POST", url+"/v1/jobs?wait=false", body, "Idempotency-Key: stored")
	if a.StatusCode != 202 {
		t.Fatalf("a stored job: %d %.300s", a.StatusCode, a.text)
	}
	for _, job := range []string{"waits", "stored"} {
		a = send(t, "GET", url+"/v1/jobs/"+job+"?wait_ms=60000", "")
		if a.StatusCode != 200 || a.body["outcome"] != "succeeded" || answerOf(t, a.body["reply"]) != muchText {
			t.Errorf("job %s: %d %.300s", job, a.StatusCode, a.text)
		}
	}
	a = send(t, "POST", url+"/v1/jobs", body, "Idempotency-Key: streamed", asEvents)
	_, last, _ := strings.Cut(a.text, "event: reply\ndata: ")
	var reply map[string]any
	if err := json.Unmarshal([]byte(strings.TrimSpace(last)), &reply); err != nil || answerOf(t, reply) != muchText {
		t.Errorf("a stream: %d %v %.300s", a.StatusCode, err, a.text)
	}
	a = send(t, "POST", url+"/v1/jobs", `{"command":"predict","args":{"question":"`+strings.Repeat(muchText, 2)+`"}}`)
	if a.StatusCode != 413 || a.body["code"] != "too_large" || a.body["hint"] == nil {
		t.Errorf("a body beyond the gateway's limit: %d %.300s", a.StatusCode, a.text)
	}
}

func TestALargeResultThatIsGoneIsAProblemThatSaysSo(t *testing.T) {
	d := dspextest.Open(t, dspextest.WithMode(dspextest.MockAdapter), dspextest.WithScenario(dspextest.Rule{Command: "predict", Outputs: map[string]any{"answer": muchText}}))
	url := serve(t, d.Client(), gateway.Config{})
	if a := send(t, "POST", url+"/v1/jobs", `{"command":"predict","args":{"question":"q"}}`, "Idempotency-Key: goes"); a.StatusCode != 200 {
		t.Fatalf("%d %.300s", a.StatusCode, a.text)
	}
	nc, err := nats.Connect(d.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), "OBJ_"+stream.ObjectBucket)
	if err == nil {
		err = s.Purge(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	a := send(t, "GET", url+"/v1/jobs/goes", "")
	if a.StatusCode != 404 || a.body["code"] != "object_unknown" || a.body["hint"] == nil {
		t.Errorf("%d %.600s", a.StatusCode, a.text)
	}
}
