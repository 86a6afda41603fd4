package wire

import (
	"math"
	"testing"
)

func TestWhatIsPassedOnMayHaveKeysThatDifferByCase(t *testing.T) {
	for _, keys := range []int{2, 20} {
		b := AppendMap(nil, keys)
		for n := range keys {
			b = AppendUint(AppendStr(b, string(rune('A'+n/2+n%2*32))), uint64(n))
		}
		if err := Check(b, Pass); err != nil {
			t.Errorf("%d keys, passed on: %v", keys, err)
		}
		if err := Check(b, Request); err == nil {
			t.Errorf("%d keys in a request: no error", keys)
		}
		twice := AppendNil(AppendStr(AppendNil(AppendStr(AppendMap(nil, 2), "US")), "US"))
		if err := Check(twice, Pass); err == nil {
			t.Error("the same key twice: no error")
		}
	}
}

func TestJSONSpellsNaNAndInfinityAsText(t *testing.T) {
	b := AppendArray(nil, 4)
	for _, f := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), 1.5} {
		b = AppendFloat(b, f)
	}
	text, err := AppendJSON(nil, b)
	if want := `["NaN","Infinity","-Infinity",1.5]`; err != nil || string(text) != want {
		t.Errorf("got %s, %v, want %s", text, err, want)
	}
}
