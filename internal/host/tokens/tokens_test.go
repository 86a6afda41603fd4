package tokens

import (
	"testing"

	"github.com/dspex/dspex/internal/fair"
)

func TestATokenForWhoHasEndedGoesToTheNext(t *testing.T) {
	all := New(0, func(string) bool { return true })
	all.Enter(NewWaiter(func(Kind) bool { return false }), fair.Key{Class: fair.Queued})
	granted := false
	all.Enter(NewWaiter(func(Kind) bool { granted = true; return true }), fair.Key{Class: fair.Queued})
	all.Return(Queued)
	if !granted {
		t.Error("the token is lost")
	}
	if n := all.WaitsFor(Queued); n != 0 {
		t.Errorf("%d wait", n)
	}
	all.Enter(NewWaiter(func(Kind) bool { return false }), fair.Key{Class: fair.Queued})
	all.Return(Queued)
	if free := all.free[Queued]; free != 1 {
		t.Errorf("%d tokens are free, want 1", free)
	}
}
