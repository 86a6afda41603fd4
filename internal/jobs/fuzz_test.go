package jobs

import (
	"bytes"
	"testing"

	"github.com/dspex/dspex/internal/wire"
)

// FuzzRequest: a body is refused with what was expected, or it is accepted in a form that is the same in both spellings.
func FuzzRequest(f *testing.F) {
	for _, body := range []string{
		`{"command": "predict", "args": {"question": "?"}, "options": {"timeout": "30s", "backoff": [1, 2], "max_retries": 3, "stream": true, "temperature": 0.5}}`,
		`{"command": "set_lm", "args": {"model": "m", "api_key": "env:X"}}`, `{"command": "x", "options": {"signature": {"inputs": []}, "outputs": ["a"], "module": "react"}}`,
		`[]`, `{}`, `{"command": 1}`, "\x82\xa7command\xa1x\xa4args\x80", "\xdf\xff\xff\xff\xff",
	} {
		f.Add(JSON, []byte(body))
		f.Add(MsgPack, []byte(body))
	}
	f.Fuzz(func(t *testing.T, kind string, body []byte) {
		req, e := ParseRequest(kind, body, 1<<16)
		if e != nil {
			switch {
			case e.Code == "":
				t.Errorf(`e.Code must not be ""; %q is refused with %+v`, body, e)
			case e.Expected == "":
				t.Errorf(`e.Expected must not be ""; %q is refused with %+v`, body, e)
			case e.Retryable:
				t.Errorf("must not hold: e.Retryable; %q is refused with %+v", body, e)
			case len(e.Path) > 1024:
				t.Errorf("len(e.Path) must be <= 1024, got %v; %q is refused with %+v", len(e.Path), body, e)
			}
			return
		}
		if err := wire.Check(req.Args, wire.Request); err != nil {
			t.Errorf("args of %q: %v", body, err)
		}
		packed := wire.AppendMap(nil, 3)
		packed = append(wire.AppendStr(packed, "args"), req.Args...)
		packed = wire.AppendStr(wire.AppendStr(packed, "command"), req.Command)
		packed = append(wire.AppendStr(packed, "options"), req.Options...)
		again, e := ParseRequest(MsgPack, packed, 0)
		switch {
		case e != nil:
			t.Errorf("e must be nil, got %v; %q is not the same in its canonical form: %v", e, body, e)
		case again.Command != req.Command:
			t.Errorf("again.Command must be req.Command, got %v; %q is not the same in its canonical form: %v", again.Command, body, e)
		case !bytes.Equal(again.Args, req.Args):
			t.Errorf("must hold: bytes.Equal(again.Args, req.Args); %q is not the same in its canonical form: %v", body, e)
		case !bytes.Equal(again.Options, req.Options):
			t.Errorf("must hold: bytes.Equal(again.Options, req.Options); %q is not the same in its canonical form: %v", body, e)
		case again.Timeout != req.Timeout:
			t.Errorf("again.Timeout must be req.Timeout, got %v; %q is not the same in its canonical form: %v", again.Timeout, body, e)
		}
	})
}

// FuzzHeaders: whatever stands in the headers, the envelope names a job and only an allowed reply subject.
func FuzzHeaders(f *testing.F) {
	f.Add(HeaderJob, "order-1", HeaderReplyTo, "_INBOX.a.b")
	f.Add(HeaderDeadline, "100", HeaderContentType, "application/json; charset=utf-8")
	f.Add("dspex-mode", "call", "Nats-TTL", "1s")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		env, e := ParseHeaders(map[string][]string{k1: {v1}, k2: {v2, v2}}, 7)
		if e != nil && (e.Code == "" || e.Expected == "") {
			t.Errorf("refused with %+v", e)
		}
		switch {
		case env.Job != "q7" && (!env.Chosen || !ValidJob(env.Job)):
			t.Errorf(`must not hold: env.Job != "q7" && (!env.Chosen || !ValidJob(env.Job)); %+v`, env)
		case env.ReplyTo != "" && !ValidReply(env.ReplyTo):
			t.Errorf(`must not hold: env.ReplyTo != "" && !ValidReply(env.ReplyTo); %+v`, env)
		case env.Deadline < 0:
			t.Errorf("env.Deadline must be >= 0, got %v; %+v", env.Deadline, env)
		case env.Deadline > MaxTimeout:
			t.Errorf("env.Deadline must be <= MaxTimeout, got %v; %+v", env.Deadline, env)
		}
	})
}

// FuzzRecords: what lies in a bucket is read, or refused; it never ends a host.
func FuzzRecords(f *testing.F) {
	f.Add((&Record{Last: &Outcome{Kind: Failed, Body: []byte{0x80}}, Ended: map[uint64]Kind{3: Expired}}).Append(nil))
	f.Add((&AttemptRecord{Failures: []Failure{{Attempt: 1, Category: Python, Code: "c"}}}).Append(nil))
	f.Add((&Result{Kind: Succeeded, Body: []byte{0x80}}).Append(nil))
	f.Add([]byte{0x9e, 1, 0xd3})
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := ParseRecord(b); err == nil {
			if _, err := ParseRecord(r.Append(nil)); err != nil {
				t.Errorf("a record that was read cannot be written: %v", err)
			}
		}
		if h, err := ParseAttemptRecord(b); err == nil {
			if _, err := ParseAttemptRecord(h.Append(nil)); err != nil {
				t.Errorf("an attempt record that was read cannot be written: %v", err)
			}
		}
		if r, err := ParseResult(b); err == nil {
			_, _, _ = ReplyError(r.Body)
		}
	})
}
