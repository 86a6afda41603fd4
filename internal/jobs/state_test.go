package jobs

import (
	"errors"
	"reflect"
	"testing"

	"github.com/dspex/dspex/internal/wire"
)

func encoded(t testing.TB, v any) []byte {
	t.Helper()
	b, err := wire.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTheContentsOfAState(t *testing.T) {
	state := map[string]any{"v": 1, "version": 7, "created_at": nil, "later": []any{1}, "lm": map[string]any{"model": "m"},
		"history": []any{map[string]any{"inputs": map[string]any{}}, map[string]any{}}, "data": map[string]any{"a": 1, "b": []any{1, 2}},
		"programs": map[string]any{
			"qa":  map[string]any{"program_type": "react", "execution_count": 3, "created_at": "then", "last_executed": "now", "signature": map[string]any{"x": 1}},
			"raw": map[string]any{"last_executed": nil}}}
	c, err := ReadState(encoded(t, state))
	if err != nil {
		t.Fatal(err)
	}
	want := Contents{Turns: 2, Data: 2, LM: encoded(t, state["lm"]), Programs: []Program{{"qa", "react", 3, "then", "now"}, {ID: "raw"}}}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("%+v, want %+v", c, want)
	}
	if c, err := ReadState(nil); err != nil || c.Programs != nil {
		t.Errorf("no state: %+v %v", c, err)
	}
}

func TestAStateOfAnotherFormIsAnError(t *testing.T) {
	for name, v := range map[string]any{
		"no map": []any{1}, "programs are a list": map[string]any{"programs": []any{}}, "a program is text": map[string]any{"programs": map[string]any{"p": "x"}},
		"history is a map": map[string]any{"history": map[string]any{}},
	} {
		if _, err := ReadState(encoded(t, v)); !errors.Is(err, errState) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ReadState(encoded(t, map[string]any{"v": 2})); !errors.Is(err, ErrNewer) {
		t.Errorf("newer: %v", err)
	}
	if _, err := ReadState([]byte{0xdf, 0xff, 0xff, 0xff, 0xff}); !errors.Is(err, errState) {
		t.Errorf("a length that lies: %v", err)
	}
}
