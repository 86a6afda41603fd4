package host_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

func TestAnOutcomeOfALostStreamIsFoundInItsSessionsRecordAndOutlivesTheNextJob(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		kv := y.records(t)
		reply := jobs.Reply{Job: "old", Attempt: 2, Session: "s", State: jobs.None, Result: []byte{0xa3, 'o', 'l', 'd'}}
		rec := jobs.Record{Stream: 1, LastSequence: 7, Updated: time.Now(), Last: &jobs.Outcome{Job: "old", Sequence: 7, Attempt: 2, Kind: jobs.Succeeded, Mode: jobs.ModeCall, Body: reply.Append(nil)}}
		if _, err := kv.Create(t.Context(), named("s").RecordKey(), rec.Append(nil)); err != nil {
			t.Fatal(err)
		}
		find := func(id string) (outcome string, result string) {
			r := y.call("dspex.rpc.jobs.get", "", `{"session":"s","job":"`+id+`"}`)
			var v struct {
				Outcome string
				Reply   struct{ Result json.RawMessage }
			}
			if r.OK {
				if err := json.Unmarshal(r.Result, &v); err != nil {
					t.Fatal(err)
				}
			}
			return v.Outcome + r.Error.Code, string(v.Reply.Result)
		}
		if outcome, result := find("old"); outcome != "succeeded" || result != `"old"` {
			t.Errorf("before the next job: %s %s", outcome, result)
		}
		if outcome, _ := find("other"); outcome != "job_unknown" {
			t.Errorf("another job: %s", outcome)
		}
		if r := y.call("dspex.rpc.session.s", "new", `{"command":"append"}`); !r.OK {
			t.Fatalf("%+v", r)
		}
		if outcome, result := find("old"); outcome != "succeeded" || result != `"old"` {
			t.Errorf("after the next job: %s %s", outcome, result)
		}
		y.pass(16 * time.Minute)
		if outcome, _ := find("old"); outcome != "job_unknown" {
			t.Errorf("after its lifetime: %s", outcome)
		}
	})
}
