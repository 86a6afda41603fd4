package control

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/dspex/dspex/internal/jobs"
)

func TestABreakersKeyTellsItsName(t *testing.T) {
	for name, key := range map[string]string{
		"lm.openai/gpt-4o": "b.lm=2Eopenai/gpt-4o", "pool.h1": "b.pool=2Eh1", "lm.a/b@127.0.0.1:80#env:K": "b.lm=2Ea/b=40127=2E0=2E0=2E1=3A80=23env=3AK", "lm.ü": "b.lm=2E=C3=BC",
	} {
		if got := BreakerKey(name); got != key {
			t.Errorf("%s: %s, expected %s", name, got, key)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.String().Draw(t, "name")
		if got, err := BreakerName(BreakerKey(name)); err != nil || got != name {
			t.Fatalf("%q, %v", got, err)
		}
	})
	for _, key := range []string{"", "c.x", "b.=", "b.a=4", "b.=ZZ", "b.=4G"} {
		if name, err := BreakerName(key); err == nil {
			t.Errorf("%q is %q", key, name)
		}
	}
}

func TestAnOpenBreakerIsReadAsItWasWritten(t *testing.T) {
	o := OpenBreaker{Name: "lm.a/b", Host: "h1", Failures: 5, Last: &LastFailure{What: "timeout/lm_timeout"}}
	switch got, err := ParseOpenBreaker(o.Bytes()); {
	case err != nil:
		t.Errorf("err must be nil, got %v; %+v %v", err, got, err)
	case got.Name != o.Name:
		t.Errorf("got.Name must be o.Name, got %v; %+v %v", got.Name, got, err)
	case got.Failures != 5:
		t.Errorf("got.Failures must be 5, got %v; %+v %v", got.Failures, got, err)
	case *got.Last != *o.Last:
		t.Errorf("*got.Last must be *o.Last, got %v; %+v %v", *got.Last, got, err)
	}
	for _, text := range []string{"", "{}", `{"name":""}`, `{"name":"` + strings.Repeat("x", MostBreakerName+1) + `"}`, `{"name":1}`} {
		if _, err := ParseOpenBreaker([]byte(text)); err == nil {
			t.Errorf("%s is accepted", text)
		}
	}
}

func TestAModelThatATenantHasChosenHasItsOwnBreaker(t *testing.T) {
	shared, chosen := jobs.Model{Breaker: "lm.openai/gpt"}, jobs.Model{Breaker: "lm.openai/mine", Chosen: true}
	for got, want := range map[string]string{
		OwnBreaker(shared, "acme"): "lm.openai/gpt", OwnBreaker(chosen, "acme"): "lm.acme!openai/mine", OwnBreaker(chosen, "globex"): "lm.globex!openai/mine",
		OwnBreaker(chosen, jobs.DefaultTenant): "lm.openai/mine", OwnBreaker(jobs.Model{Chosen: true}, "acme"): "",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	for name, want := range map[string]bool{
		"lm.openai/gpt": true, "lm.acme!openai/mine": true, "lm.globex!openai/mine": false, "lm.ollama/a!b": true, "pool.h1": false, "start.h1": false, "lm.globex!openai/" + strings.Repeat("x", 200): false,
	} {
		if BreakerShownTo("acme", clipName(name)) != want {
			t.Errorf("%s is shown: %v", name, !want)
		}
	}
	if !BreakerOfAll(OwnBreaker(chosen, "acme")) {
		t.Error("all hosts count it together")
	}
}
