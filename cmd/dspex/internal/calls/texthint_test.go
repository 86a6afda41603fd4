package calls

import (
	"errors"
	"testing"

	"github.com/dspex/dspex"
)

func TestARefusedNumberIsToldHowTextIsWritten(t *testing.T) {
	e := &dspex.Error{Path: "args.text", Message: "price: text must be str, not int"}
	if got := withTextHint(e); !errors.Is(got, e) || e.Hint != `text=5 is a number; as text it is written text:='"5"'` {
		t.Errorf("%q", e.Hint)
	}
	for _, other := range []*dspex.Error{{Path: "args.n", Message: "n must be int, not str"}, {Message: "must be str, not int"}, {Path: "args.t", Message: "t must be str, not int", Hint: "own"}} {
		hint := other.Hint
		if _ = withTextHint(other); other.Hint != hint {
			t.Errorf("%q", other.Hint)
		}
	}
}
