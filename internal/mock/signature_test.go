package mock

import (
	"fmt"
	"testing"
)

func TestOutputsHaveTheTypesOfTheSignature(t *testing.T) {
	sig, e := parseSignature(`text: str, n: integer -> a, b: int, c: number, d: boolean, e: list[str], f: dict[str, int], g: Literal['x', 'y, z'], h: Optional[bool], i: list[list[int]]`, "args.signature")
	if e != nil {
		t.Fatal(e.message)
	}
	got := ""
	for _, f := range sig.outputs {
		got += fmt.Sprintf("%s=%v ", f.name, valueOf(f.kind, "four"))
	}
	if want := "a=[mock] four b=4 c=2 d=true e=[[mock] four] f=map[mock:4] g=x h=true i=[[4]] "; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestInputsThatDoNotFitAreAllNamed(t *testing.T) {
	sig, _ := parseSignature("text: str, n: int, more: Optional[str] -> answer", "")
	if e := sig.check(map[string]any{"text": "x", "n": int64(1)}, "args"); e != nil {
		t.Errorf("%+v", e)
	}
	e := sig.check(map[string]any{"n": "1", "other": true}, "args")
	if e == nil || e.message != "missing input 'text'; input n must be int; unknown input 'other'" || e.expected != "text: str, n: int, more: Optional[str]" {
		t.Errorf("%+v", e)
	}
	for _, bad := range []any{"question", "a -> b -> c", " -> b", 5, map[string]any{"inputs": []any{}}, "a b -> c"} {
		if _, e := parseSignature(bad, "args.signature"); e == nil || e.code != "bad_signature" {
			t.Errorf("%v was taken", bad)
		}
	}
}
