package procs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex"
)

// TestValuesThatNobodyOfUsWroteAreNamedAndNotObeyed puts such under keys that are read, and some that are not.
func TestValuesThatNobodyOfUsWroteAreNamedAndNotObeyed(t *testing.T) {
	d := deploy(t)
	dispatcher := d.start("dispatcher", "d1", "--partitions", "8")
	d.host("h1").awaitReady()
	dispatcher.awaitReady()
	c, js := d.client(), d.streams()
	s := &story{t: t, c: c, session: "story", counted: map[string]bool{}}
	s.goOn("first")
	put := func(bucket, key, value string) {
		t.Helper()
		kv, err := js.KeyValue(t.Context(), bucket)
		if err == nil {
			_, err = kv.Put(t.Context(), key, []byte(value))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for n, key := range []string{"drain.h1", "lm.default", "b.lm=2Ex", "f.lm=2Ex", "something.else"} {
		put("dspex_control", key, []string{"true", `{"since": 7}`, "\x81"}[n%3])
		tells(t, c, fmt.Sprintf("bucket dspex_control holds a value under %q", key))
	}
	hosts, err := c.Admin().Hosts(t.Context())
	if err != nil || hosts.Hosts[0].Drain || hosts.Hosts[0].State != dspex.HostServing {
		t.Errorf("%+v, %v", hosts, err)
	}
	if _, err := c.Execute(t.Context(), "other", "predict", dspex.Args{"question": "a?"}); err != nil {
		t.Errorf("a predict without a model of its own: %v", err)
	}
	for _, key := range []string{"p.99", "p.99x", "q"} {
		put("dspex_assign", key, "mine")
		tells(t, c, fmt.Sprintf("bucket dspex_assign holds a value under %q", key))
	}
	// What lies under the key of a partition is replaced.
	for n := range 8 {
		put("dspex_assign", fmt.Sprintf("p.%d", n), []string{"mine", `{"host": "a b"}`}[n%2])
	}
	s.goOn("second")
	eventually(t, "every partition has its owner again", func(ctx context.Context) error {
		h, err := c.Health(ctx)
		if err == nil && strings.Contains(strings.Join(h.Reasons, "\n"), `"p.1"`) {
			err = errors.New(strings.Join(h.Reasons, "\n"))
		}
		return err
	})
	// An operator's word replaces what was not one, and what is removed is not named any more.
	if err := c.Admin().DrainHost(t.Context(), "h1"); err != nil {
		t.Fatal(err)
	}
	if err := c.Admin().ResumeHost(t.Context(), "h1"); err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), "dspex_control")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Get(t.Context(), "drain.h1"); !errors.Is(err, jetstream.ErrKeyNotFound) {
		t.Errorf("the drain's key: %v", err)
	}
	eventually(t, "a removed value is not named", func(ctx context.Context) error {
		h, err := c.Health(ctx)
		if err == nil && strings.Contains(strings.Join(h.Reasons, "\n"), "drain.h1") {
			err = errors.New(strings.Join(h.Reasons, "\n"))
		}
		return err
	})
	s.goOn("third")
}
