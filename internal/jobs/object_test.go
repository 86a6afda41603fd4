package jobs

import (
	"strings"
	"testing"

	"github.com/dspex/dspex/internal/wire"
)

func referring(t *testing.T, id, digest, args string) Request {
	t.Helper()
	r, bad := ParseRequest(JSON, []byte(`{"command": "echo", "args": `+args+`, "args_object": {"object": "`+id+`", "size": 2, "digest": "`+digest+`", "type": "application/json"}}`), 0)
	if bad != nil {
		t.Fatal(bad)
	}
	return r
}

var someID, someDigest = strings.Repeat("A", 26), strings.Repeat("0", 64)

func TestOfAReferenceTheDigestCountsAndNotTheID(t *testing.T) {
	one := referring(t, someID, someDigest, "{}")
	if again := referring(t, strings.Repeat("B", 26), someDigest, "{}"); again.Hash != one.Hash {
		t.Error("the same arguments, uploaded again, are another payload")
	}
	if other := referring(t, someID, strings.Repeat("1", 64), "{}"); other.Hash == one.Hash {
		t.Error("other arguments are the same payload")
	}
	if other := referring(t, someID, someDigest, `{"x": 1}`); other.Hash == one.Hash {
		t.Error("other arguments in the request are the same payload")
	}
}

func TestArgumentsByReferenceAreJoinedInOrder(t *testing.T) {
	r := referring(t, someID, someDigest, `{"b": 2, "d": 4}`)
	got, bad := r.Object.JoinArgs(r.Args, []byte(`{"c": 3, "a": 1}`))
	if bad != nil {
		t.Fatal(bad)
	}
	want, err := wire.FromJSON([]byte(`{"a": 1, "b": 2, "c": 3, "d": 4}`), wire.Request)
	if err != nil || string(got) != string(want) {
		t.Errorf("got %x, want %x, %v", got, want, err)
	}
}

func TestArgumentsByReferenceThatAreNoneAreRefused(t *testing.T) {
	r := referring(t, someID, someDigest, `{"x": 1}`)
	for _, object := range []string{`[]`, `{`, `{"x": 2}`, `{"session_id": "s"}`, `{"program_id": "p"}`, `{"id": "p"}`, `{"api_key": "env:K"}`, `{"a": 1, "a": 2}`, ``} {
		if got, bad := r.Object.JoinArgs(r.Args, []byte(object)); bad == nil || bad.Code != CodeBadInput || bad.Path != "args_object" {
			t.Errorf("%s: got %x, %v", object, got, bad)
		}
	}
}

func TestAnObjectGoesWithWhatItsNameSays(t *testing.T) {
	batch := "b" + strings.Repeat("0", 24) + "-7"
	for _, x := range []struct {
		of        SessionRef
		job, want string
	}{
		{SessionRef{"acme", "s"}, "q1", "acme.s.s.X"},
		{SessionRef{"acme", ""}, "q1", "acme.a.X"},
		{SessionRef{"acme", "s"}, "", "acme.s.s.X"},
		{SessionRef{"acme", "s"}, batch, "acme.b." + batch[1:25] + ".X"},
		{SessionRef{"acme", ""}, "b-", "acme.a.X"},
	} {
		if got := x.of.ObjectName(x.job, "X"); got != x.want {
			t.Errorf("%v, job %q: got %s, want %s", x.of, x.job, got, x.want)
		}
	}
	if long, short := ObjectTTL(ModeCall, batch), ObjectTTL(ModeCall, "q1"); long <= short || short <= ResultTTL(ModeCall) {
		t.Errorf("kept for %v and %v", long, short)
	}
}
