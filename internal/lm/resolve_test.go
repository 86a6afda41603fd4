package lm

import (
	"reflect"
	"testing"
)

func registry(t testing.TB) *Registry {
	t.Helper()
	warm := 0.5
	r, err := New(File{Default: "a", Profiles: map[string]Profile{
		"a": {Provider: "openai", Model: "gpt-4o", Temperature: &warm}, "b": {Provider: "openai", Model: "gpt-4o"},
	}}, func(string) string { return "secret" })
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAModelIsMadeOnceForEachContent(t *testing.T) {
	r := registry(t)
	keys := map[string]string{}
	for name, choice := range map[string]map[string]any{
		"a profile": {"model": "a"}, "another": {"model": "b"}, "a temperature": {"model": "a", "temperature": 0.0},
		"fewer tokens": {"model": "a", "max_tokens": 5}, "a bare model": {"model": "gpt-4o"},
	} {
		chosen := args(t, choice)
		first, e := registry(t).Chosen(chosen)
		if e != nil {
			t.Fatal(name, e)
		}
		for range 2 {
			if again, e := r.Chosen(chosen); e != nil || !reflect.DeepEqual(again, first) {
				t.Errorf("%s: another registry made another model: %v %v", name, again, e)
			}
		}
		if other := keys[first.Key]; other != "" {
			t.Errorf("%s and %s have one key", name, other)
		}
		keys[first.Key] = name
	}
	if len(r.resolved) != len(keys) {
		t.Errorf("%d models are kept, expected %d", len(r.resolved), len(keys))
	}
}

func TestModelsThatAreKeptAreBounded(t *testing.T) {
	r := registry(t)
	for n := range 3 * mostResolved {
		if _, e := r.Chosen(args(t, map[string]any{"model": "a", "max_tokens": n + 1})); e != nil {
			t.Fatal(e)
		}
	}
	if len(r.resolved) > mostResolved {
		t.Errorf("%d models are kept", len(r.resolved))
	}
}

func BenchmarkDefault(b *testing.B) {
	r := registry(b)
	for b.Loop() {
		if _, e := r.Default(); e != nil {
			b.Fatal(e)
		}
	}
}
