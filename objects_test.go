package dspex_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/natstest"
)

// large serves a job whose result is an object, in pieces of ten bytes; nil: it is gone.
func large(t *testing.T, object []byte, digest string) *dspex.Client {
	t.Helper()
	s := natstest.Run(t)
	nc := natstest.Connect(t, s)
	reply := fmt.Sprintf(`{"ok": true, "job": "q7", "attempt": 1, "session": {"id": "s", "state": "none"}, "result_object": {"object": "O1", "size": %d, "digest": %q, "type": "application/json"}}`, max(len(object), 1), digest)
	serve := func(subject string, answer func(body map[string]any) string) {
		if _, err := nc.Subscribe(subject, func(m *nats.Msg) {
			var body map[string]any
			if err := json.Unmarshal(m.Data, &body); err != nil {
				t.Error(err)
			}
			if err := m.Respond([]byte(answer(body))); err != nil {
				t.Error(err)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	serve("dspex.rpc.session.s", func(map[string]any) string { return reply })
	serve("dspex.rpc.jobs.get", func(map[string]any) string {
		return `{"ok": true, "result": {"job": "q7", "session": "s", "outcome": "succeeded", "attempts": 1, "reply": ` + reply + `}}`
	})
	serve("dspex.rpc.batches.results", func(map[string]any) string {
		return `{"ok": true, "result": {"results": [{"index": 0, "session": "s", "job": "q7", "outcome": "succeeded", "attempts": 1, "reply": ` + reply + `}]}}`
	})
	serve("dspex.rpc.objects.get", func(body map[string]any) string {
		if object == nil || body["object"] != "O1" || body["session"] != "s" || body["job"] != "q7" {
			return `{"ok": false, "error": {"error_category": "session", "code": "object_unknown", "message": "the object is unknown"}}`
		}
		text, _ := body["cursor"].(string)
		at, _ := strconv.Atoi(text)
		end := min(at+10, len(object))
		data, err := json.Marshal(object[at:end])
		if err != nil {
			t.Error(err)
		}
		return fmt.Sprintf(`{"ok": true, "result": {"data": %s, "cursor": "%d"}}`, data, end)
	})
	c, err := dspex.Connect(t.Context(), s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func TestALargeResultIsFetchedWhereverItsReplyComesFrom(t *testing.T) {
	object := []byte(`{"answer": "` + strings.Repeat("x", 95) + `"}`)
	c := large(t, object, digestOf(object))
	called, err := c.Execute(t.Context(), "s", "echo", nil)
	if err != nil {
		t.Fatal(err)
	}
	job, err := c.GetJob(t.Context(), dspex.JobRef{Session: "s", ID: "q7"})
	if err != nil {
		t.Fatal(err)
	}
	var streamed, batched *dspex.Reply
	for chunk, err := range c.Stream(t.Context(), "s", "echo", nil) {
		if err != nil {
			t.Fatal(err)
		}
		streamed = chunk.Reply
	}
	for r, err := range c.BatchResults(t.Context(), "b", dspex.BatchQuery{}) {
		if err != nil {
			t.Fatal(err)
		}
		batched = r.Reply
		if strings.Contains(string(r.Raw), "result_object") || !strings.Contains(string(r.Raw), `"result":{`) {
			t.Errorf("the line is %s", r.Raw)
		}
	}
	for from, reply := range map[string]*dspex.Reply{"Execute": &called, "GetJob": job.Reply, "Stream": streamed, "BatchResults": batched} {
		equal(t, from, string(reply.Result), string(object))
		equal(t, from, reply.Object.Size, len(object))
		sameJSON(t, reply.Raw, `{"ok": true, "job": "q7", "attempt": 1, "session": {"id": "s", "state": "none"}, "result": `+string(object)+`}`)
	}
}

func TestALargeResultThatIsNotWhatItsDigestSaysIsAnError(t *testing.T) {
	c := large(t, []byte(`{"answer": "forged"}`), digestOf([]byte(`{"answer": "honest"}`)))
	_, err := c.Execute(t.Context(), "s", "echo", nil)
	if err == nil || !strings.Contains(err.Error(), "digest") {
		t.Errorf("got %v", err)
	}
}

func TestALargeResultThatIsGoneIsAnErrorOfItsResultAlone(t *testing.T) {
	c := large(t, nil, digestOf(nil))
	_, err := c.Execute(t.Context(), "s", "echo", nil)
	failsWith(t, "Execute", err, "object_unknown")
	results := 0
	for r, err := range c.BatchResults(t.Context(), "b", dspex.BatchQuery{}) {
		if err != nil {
			t.Fatal(err)
		}
		results++
		failsWith(t, "the result", r.Err, "object_unknown")
	}
	equal(t, "results", results, 1)
}

func TestArgumentsThatDoNotFitAreUploaded(t *testing.T) {
	s := natstest.Run(t)
	nc := natstest.Connect(t, s)
	var uploaded, body []byte
	var whole map[string]any
	serve := func(subject string, answer func(data []byte) string) {
		if _, err := nc.Subscribe(subject, func(m *nats.Msg) {
			if err := m.Respond([]byte(answer(m.Data))); err != nil {
				t.Error(err)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	read := func(data []byte, v any) {
		if err := json.Unmarshal(data, v); err != nil {
			t.Error(err)
		}
	}
	serve("dspex.rpc.objects.upload", func(data []byte) string {
		var piece struct {
			Data                    []byte
			Session, Object, Cursor string
		}
		read(data, &piece)
		equal(t, "session", piece.Session, "s")
		if len(uploaded) > 0 {
			equal(t, "object", piece.Object, "O1")
			equal(t, "cursor", piece.Cursor, strconv.Itoa(len(uploaded)))
		}
		uploaded = append(uploaded, piece.Data...)
		return fmt.Sprintf(`{"ok": true, "result": {"object": "O1", "cursor": "%d"}}`, len(uploaded))
	})
	serve("dspex.rpc.objects.complete", func(data []byte) string { read(data, &whole); return `{"ok": true, "result": {}}` })
	serve("dspex.rpc.session.s", func(data []byte) string {
		body = data
		return `{"ok": true, "job": "q7", "attempt": 1, "result": {}}`
	})
	c, err := dspex.Connect(t.Context(), s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	large := strings.Repeat("x", 600<<10)
	if _, err := c.Execute(t.Context(), "s", "execute_program", dspex.Args{"program_id": "p", "inputs": large}, dspex.WithMaxRetries(1)); err != nil {
		t.Fatal(err)
	}
	sameJSON(t, uploaded, `{"inputs": "`+large+`"}`)
	digest := digestOf(uploaded)
	sameJSON(t, body, fmt.Sprintf(`{"command": "execute_program", "args": {"program_id": "p"}, "options": {"max_retries": 1},
		"args_object": {"object": "O1", "size": %d, "digest": %q, "type": "application/json"}}`, len(uploaded), digest))
	equal(t, "session", whole["session"], any("s"))
	equal(t, "digest", whole["digest"], any(digest))
	if _, err := c.Execute(t.Context(), "s", "set_lm", dspex.Args{"model": large}); err != nil { // the service refuses it
		t.Fatal(err)
	}
	if strings.Contains(string(body), "args_object") {
		t.Error("set_lm went with arguments by reference")
	}
}
