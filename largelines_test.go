package dspex_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/natstest"
)

// uploads serves objects up to a size, and takes batches. It returns what was uploaded and what the batches' requests had as jobs.
func uploads(t *testing.T, most int) (c *dspex.Client, objects map[string][]byte, jobs *[]map[string]json.RawMessage) {
	t.Helper()
	s := natstest.Run(t)
	nc := natstest.Connect(t, s)
	objects, jobs = map[string][]byte{}, &[]map[string]json.RawMessage{}
	var request struct {
		Session, Object string
		Data            []byte
		Size            int
		Jobs            json.RawMessage
	}
	serve := func(subject string, answer func() string) {
		if _, err := nc.Subscribe(subject, func(m *nats.Msg) {
			request.Session, request.Object, request.Data, request.Jobs = "", "", nil, nil
			err := json.Unmarshal(m.Data, &request)
			if err == nil {
				err = m.Respond([]byte(answer()))
			}
			if err != nil {
				t.Error(err)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	serve("dspex.rpc.objects.upload", func() string {
		if request.Object == "" {
			request.Object = fmt.Sprintf("%s/%d", request.Session, len(objects))
		}
		objects[request.Object] = append(objects[request.Object], request.Data...)
		return fmt.Sprintf(`{"ok": true, "result": {"object": %q, "cursor": "c"}}`, request.Object)
	})
	serve("dspex.rpc.objects.complete", func() string {
		if request.Size > most {
			return `{"ok": false, "error": {"error_category": "session", "code": "too_large", "message": "too much"}}`
		}
		return `{"ok": true, "result": {}}`
	})
	serve("dspex.rpc.batches.upload", func() string {
		var list []map[string]json.RawMessage
		if err := json.Unmarshal(request.Jobs, &list); err != nil {
			t.Error(err)
		}
		*jobs = append(*jobs, list...)
		for i, job := range list {
			if job == nil {
				return fmt.Sprintf(`{"ok": false, "error": {"error_category": "python", "code": "bad_batch", "message": "bad"},
					"invalid": [{"index": %d, "error": {"error_category": "python", "code": "bad_request", "message": "no map"}}]}`, i)
			}
		}
		return `{"ok": true, "result": {"batch": "b"}}`
	})
	serve("dspex.rpc.batches.submit", func() string { return `{"ok": true, "result": {"batch": "b"}}` })
	c, err := dspex.Connect(t.Context(), s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, objects, jobs
}

func each(jobs ...dspex.BatchJob) func(func(dspex.BatchJob, error) bool) {
	return func(yield func(dspex.BatchJob, error) bool) {
		for _, job := range jobs {
			if !yield(job, nil) {
				return
			}
		}
	}
}

func TestArgumentsOfABatchThatDoNotFitAreUploaded(t *testing.T) {
	c, objects, jobs := uploads(t, 1<<20)
	large := strings.Repeat("x", 700<<10)
	raw := json.RawMessage(`{"id": "r", "session": "s", "command": "execute_program", "args": {"program_id": "p", "n": 1.50, "text": "` + large + `"}, "options": {"max_retries": 1}}`)
	_, err := c.SubmitBatch(t.Context(), "b", each(dspex.BatchJob{Raw: raw}, dspex.BatchJob{Command: "echo", Args: dspex.Args{"text": large}},
		dspex.BatchJob{Command: "echo", Args: dspex.Args{"text": "small"}}))
	if err != nil || len(*jobs) != 3 {
		t.Fatalf("%v, %d jobs", err, len(*jobs))
	}
	sameJSON(t, objects["s/0"], `{"n": 1.50, "text": "`+large+`"}`)
	sameJSON(t, objects["/1"], `{"text": "`+large+`"}`)
	first, second := (*jobs)[0], (*jobs)[1]
	sameJSON(t, first["args"], `{"program_id": "p"}`)
	sameJSON(t, first["options"], `{"max_retries": 1}`)
	sameJSON(t, first["id"], `"r"`)
	sameJSON(t, first["args_object"], fmt.Sprintf(`{"object": "s/0", "size": %d, "digest": %q, "type": "application/json"}`, len(objects["s/0"]), digestOf(objects["s/0"])))
	if second["args"] != nil || second["args_object"] == nil || (*jobs)[2]["args_object"] != nil {
		t.Errorf("the second job has %v, the third %v", second, (*jobs)[2])
	}
}

func TestAJobOfABatchWithMoreThanAnObjectMayHaveIsNamed(t *testing.T) {
	c, _, _ := uploads(t, 1000)
	large := dspex.Args{"text": strings.Repeat("x", 700<<10)}
	_, err := c.SubmitBatch(t.Context(), "b", each(dspex.BatchJob{Command: "echo"}, dspex.BatchJob{Command: "echo", Args: large}))
	named, is := errors.AsType[*dspex.InvalidJobsError](err)
	if !is || len(named.Invalid) != 1 {
		t.Fatalf("got %v, expected one invalid job", err)
	}
	equal(t, "index", named.Invalid[0].Index, 1)
	equal(t, "code", named.Invalid[0].Err.Code, "too_large")
}

func TestABatchOfWhichNothingWasSentIsNoUnclearOne(t *testing.T) {
	c, _, jobs := uploads(t, 1000)
	broken := errors.New("the file cannot be read")
	for name, from := range map[string]iter.Seq2[dspex.BatchJob, error]{
		"no job":                  each(),
		"the file cannot be read": func(yield func(dspex.BatchJob, error) bool) { yield(dspex.BatchJob{}, broken) },
	} {
		_, err := c.SubmitBatch(t.Context(), "", from)
		if _, unclear := errors.AsType[*dspex.UnclearBatchError](err); err == nil || unclear || len(*jobs) > 0 {
			t.Errorf("%s: got %v, unclear %v, %d jobs were sent", name, err, unclear, len(*jobs))
		}
	}
}
