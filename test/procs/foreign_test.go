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
	for n, key := range []string{"drain.h1", "lm.default", "b.lm=2Ex", "f.lm=2Ex", "clock", "something.else"} {
		put("dspex_control", key, []string{"true", `{"since": 7}`, "\x81"}[n%3])
		tells(t, c, fmt.Sprintf("bucket dspex_control has a value under %q", key))
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
		tells(t, c, fmt.Sprintf("bucket dspex_assign has a value under %q", key))
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

// TestValuesAmongRecordsAndOutcomesThatNobodyOfUsWroteAreNamedAndNotObeyed puts such where hosts and dispatchers look for what is a
// session's, a job's or a batch's.
func TestValuesAmongRecordsAndOutcomesThatNobodyOfUsWroteAreNamedAndNotObeyed(t *testing.T) {
	d := deploy(t)
	dispatcher := d.start("dispatcher", "d1", "--partitions", "4")
	d.host("h1").awaitReady()
	dispatcher.awaitReady()
	c, js := d.client(), d.streams()
	s := &story{t: t, c: c, session: "story", counted: map[string]bool{}}
	s.goOn("first")
	outcome, err := js.KeyValue(t.Context(), "dspex_results")
	if err != nil {
		t.Fatal(err)
	}
	ours, err := outcome.Get(t.Context(), "r.s.story.first")
	if err != nil {
		t.Fatal(err)
	}
	never := "\x9a\x01\x01\x01\x01\x01\x00\xd3\x7f\xff\xff\xff\xff\xff\xff\xff\x90\x90\x00" // a retry in 292 million years
	hostile := []struct{ bucket, key, value string }{
		{"sessions", "s.story", "true"}, {"sessions", "h.story", never}, {"sessions", "s.fresh", `{"since": 7}`}, {"sessions", "h.fresh", "\x81"},
		{"sessions", "s.one.two.three", "x"}, {"sessions", "a.program", "x"}, {"sessions", "other", "x"},
		{"results", "r.s.story.mine", string(ours.Value())}, {"results", "r.s.story.none", "x"}, {"results", "r.a.none", "\x80"},
		{"results", "t.none", never}, {"results", "other", "x"},
		{"batches", "b.default.mine", "{}"}, {"batches", "i.default.key.0", "x"}, {"batches", "o.default.key.0.0", "x"}, {"batches", "other", "x"},
	}
	for _, put := range hostile {
		kv, err := js.KeyValue(t.Context(), "dspex_"+put.bucket)
		if err == nil {
			_, err = kv.Put(t.Context(), put.key, []byte(put.value))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, put := range hostile {
		tells(t, c, fmt.Sprintf("bucket dspex_%s has a value under %q", put.bucket, put.key))
	}
	if h, err := c.Health(t.Context()); err != nil || strings.Contains(strings.Join(h.Reasons, "\n"), "r.s.story.first") {
		t.Errorf("%v %+v", err, h)
	}
	// Another job's outcome is none of this one, and what cannot be read is not answered.
	for _, job := range []string{"mine", "none"} {
		var e *dspex.Error
		if st, err := c.GetJob(t.Context(), dspex.JobRef{Session: "story", ID: job}); !errors.As(err, &e) || e.Code != "record_unreadable" {
			t.Errorf("%s: %+v, %v", job, st, err)
		}
	}
	if state := s.goOn("second"); state != dspex.SessionReset {
		t.Errorf("a session whose record was written over is %s", state)
	}
	fresh := &story{t: t, c: c, session: "fresh", counted: map[string]bool{}}
	fresh.goOn("one")
	fresh.goOn("two")
	// What was replaced is not named any more, nor what is removed.
	kv, err := js.KeyValue(t.Context(), "dspex_sessions")
	if err == nil {
		err = kv.Delete(t.Context(), "other")
	}
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "replaced and removed values are not named", func(ctx context.Context) error {
		h, err := c.Health(ctx)
		said := strings.Join(h.Reasons, "\n")
		for _, key := range []string{`"s.story"`, `"h.story"`, `"s.fresh"`, `"h.fresh"`, `dspex_sessions has a value under "other"`} {
			if err == nil && strings.Contains(said, key) {
				err = errors.New(said)
			}
		}
		return err
	})
}
