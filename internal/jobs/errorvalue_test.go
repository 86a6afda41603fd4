package jobs

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/wire"
)

func TestAnErrorNamesItsJobAndWhenToTryAgainUnderBothNames(t *testing.T) {
	e := Errorf(Resource, CodeBreakerOpen, "open").Again()
	e.RetryAfter = 1500 * time.Millisecond
	r := Reply{Job: "j1", Attempt: 1, Err: e}
	text, err := wire.AppendJSON(nil, r.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Error struct {
			Job          string
			RetryAfter   int `json:"retry_after"`
			RetryAfterMS int `json:"retry_after_ms"`
		}
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if got.Error.Job != "j1" {
		t.Errorf("job %q", got.Error.Job)
	}
	if got.Error.RetryAfter != 1500 {
		t.Errorf("retry_after %d", got.Error.RetryAfter)
	}
	if got.Error.RetryAfterMS != 1500 {
		t.Errorf("retry_after_ms %d", got.Error.RetryAfterMS)
	}
}
