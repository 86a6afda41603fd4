package calls

import (
	"errors"
	"strings"
	"testing"

	"github.com/dspex/dspex"
)

func TestAnUnknownCountedIdSaysThatSessionsAreCountedApart(t *testing.T) {
	unknown := &dspex.Error{Code: dspex.CodeJobUnknown, Hint: "outcomes are kept for a day"}
	hint := func(job dspex.JobRef, err error) string {
		var e *dspex.Error
		if !errors.As(ofWhichQueue(job, err), &e) {
			return ""
		}
		return e.Hint
	}
	for _, c := range []struct {
		job  dspex.JobRef
		want string
	}{
		{dspex.JobRef{ID: "q5"}, "name the session of q5 with --session"},
		{dspex.JobRef{ID: "q5", Session: "s1"}, "leave --session out if q5 is anonymous"},
		{dspex.JobRef{ID: "order-5"}, "outcomes are kept for a day"},
		{dspex.JobRef{ID: "q5x"}, "outcomes are kept for a day"},
	} {
		if got := hint(c.job, unknown); !strings.Contains(got, c.want) {
			t.Errorf("%+v: got %q, want %q", c.job, got, c.want)
		}
	}
	if unknown.Hint != "outcomes are kept for a day" {
		t.Error("the error itself was changed")
	}
	other := &dspex.Error{Code: "broker_unreachable", Hint: "h"}
	if hint(dspex.JobRef{ID: "q5"}, other) != "h" || ofWhichQueue(dspex.JobRef{ID: "q5"}, nil) != nil {
		t.Error("another error, or none, was changed")
	}
}
