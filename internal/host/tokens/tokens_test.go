package tokens

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/dspex/dspex/internal/fair"
)

func TestATokenForWhoHasEndedGoesToTheNext(t *testing.T) {
	all := New(0, func(string) bool { return true })
	all.Enter(NewWaiter("", func(Kind) bool { return false }), fair.Key{Class: fair.Queued})
	granted := false
	all.Enter(NewWaiter("", func(Kind) bool { granted = true; return true }), fair.Key{Class: fair.Queued})
	all.Return(Queued, "")
	if !granted {
		t.Error("the token is lost")
	}
	if n := all.WaitsFor(Queued); n != 0 {
		t.Errorf("%d wait", n)
	}
	all.Enter(NewWaiter("", func(Kind) bool { return false }), fair.Key{Class: fair.Queued})
	all.Return(Queued, "")
	if free := all.free[Queued]; free != 1 {
		t.Errorf("%d tokens are free, want 1", free)
	}
}

// TestNoTenantWaitsForAnothersTokens drives tokens with any operations. At any time each tenant that has waiting sessions has a token at
// work, none is free beside those that wait, and no more are out than there are, and one for each tenant.
func TestNoTenantWaitsForAnothersTokens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 4).Draw(t, "tokens")
		all := New(n, func(string) bool { return true })
		tenant := rapid.SampledFrom([]string{"a", "b", "c"})
		most := n // tokens that may be out, those included that were before there were fewer
		out, waiting := map[string]int{}, map[string]int{}
		t.Repeat(map[string]func(*rapid.T){
			"enter": func(t *rapid.T) {
				of := tenant.Draw(t, "tenant")
				waiting[of]++
				all.Enter(NewWaiter(of, func(Kind) bool { waiting[of]--; out[of]++; return true }), fair.Key{Class: fair.Queued, Tenant: of})
			},
			"resize": func(t *rapid.T) {
				n = rapid.IntRange(1, 4).Draw(t, "tokens now")
				all.Resize(n)
				most = max(n, out["a"]+out["b"]+out["c"])
			},
			"return": func(t *rapid.T) {
				if of := tenant.Draw(t, "tenant"); out[of] > 0 {
					out[of]--
					all.Return(Queued, of)
				}
			},
			"": func(t *rapid.T) {
				held, wait := 0, 0
				for _, of := range []string{"a", "b", "c"} {
					held, wait = held+out[of], wait+waiting[of]
					if waiting[of] > 0 && out[of] == 0 {
						t.Fatalf("%s has no token, and %d wait", of, waiting[of])
					}
				}
				if held > max(n, most)+3 {
					t.Fatalf("%d tokens are out, want at most %d", held, max(n, most)+3)
				}
				if held < n && wait > 0 {
					t.Fatalf("%d of %d tokens are out, and %d wait", held, n, wait)
				}
				if free := all.free[Queued]; free != n-held {
					t.Fatalf("%d of %d tokens are out, and %d are counted as free", held, n, free)
				}
			},
		})
	})
}

func TestMoreTokensGoToWhoWaitsAndFewerAreNotHandedOn(t *testing.T) {
	all := New(1, func(string) bool { return true })
	granted := 0
	for range 3 {
		all.Enter(NewWaiter("a", func(Kind) bool { granted++; return true }), fair.Key{Class: fair.Call, Tenant: "a"})
	}
	all.Resize(2)
	if granted != 2 {
		t.Errorf("%d tokens of two were granted", granted)
	}
	all.Resize(1)
	all.Return(Call, "a")
	if granted != 2 {
		t.Error("a token that there is no longer was handed on")
	}
	all.Return(Call, "a")
	if granted != 3 {
		t.Error("the last one waits, and the token is free")
	}
}
