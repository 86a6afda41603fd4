package jobs

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestAJobsOwnOptionsWinOverItsCommandsDefaultsAndTheseOverThoseOfAll(t *testing.T) {
	d, err := ParseDefaults([]byte(`{"*": {"timeout": "1m", "max_retries": 1, "jitter": 0.1}, "resize": {"timeout": 600000, "backoff": [5]}}`))
	if err != nil {
		t.Fatal(err)
	}
	d.Timeout = 10 * time.Second
	for body, want := range map[string]Request{
		`{"command": "echo"}`:   {Timeout: time.Minute, Policy: Policy{MaxRetries: new(1), Jitter: 0.1}},
		`{"command": "resize"}`: {Timeout: 10 * time.Minute, Policy: Policy{MaxRetries: new(1), Jitter: 0.1, Backoff: Delays(5 * time.Millisecond)}},
		`{"command": "resize", "options": {"timeout": 5, "max_retries": 0, "backoff": "linear", "stream": true}}`: {Timeout: 5 * time.Millisecond,
			Policy: Policy{MaxRetries: new(0), Jitter: 0.1, Backoff: Linear()}},
	} {
		r, e := ParseRequest(JSON, []byte(body), 1000)
		if e != nil {
			t.Fatal(e)
		}
		stream := r.Stream
		d.Fill(&r)
		if r.Timeout != want.Timeout || !reflect.DeepEqual(r.Policy, want.Policy) || r.Stream != stream {
			t.Errorf("%s: %v %+v, want %v %+v", body, r.Timeout, r.Policy, want.Timeout, want.Policy)
		}
	}
	r := Request{Command: "echo"}
	Defaults{Timeout: time.Second}.Fill(&r)
	if r.Timeout != time.Second || r.Policy.MaxRetries != nil {
		t.Errorf("without a file: %+v", r)
	}
	if Defaults.Fill(Defaults{}, &r); r.Timeout != DefaultTimeout {
		t.Errorf("without any: %v", r.Timeout)
	}
}

func TestWrongDefaultsAreAllSaidAtOnce(t *testing.T) {
	_, err := ParseDefaults([]byte(`{"Resize": {}, "a": {"stream": true}, "b": {"max_retries": 21}, "c": 1, "d": {"timeout": "1h"}}`))
	said := fmt.Sprint(err)
	for _, part := range []string{`a key must be the name of a command, or * for all, got "Resize"`, "a: stream has no default: expected some of [timeout max_retries backoff backoff_cap jitter]",
		"b: max_retries is out of range: expected an integer from 0 to 20", "c must be a map of options"} {
		if !strings.Contains(said, part) {
			t.Errorf("%q is not in %s", part, said)
		}
	}
	for _, body := range []string{``, `[]`, `{"a": {}, "a": {}}`, `{`} {
		if _, err := ParseDefaults([]byte(body)); err == nil {
			t.Errorf("%q is accepted", body)
		}
	}
}
