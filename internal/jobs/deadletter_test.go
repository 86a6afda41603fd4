package jobs

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/dspex/dspex/internal/wire"
)

func ref(id string) SessionRef { return SessionRef{DefaultTenant, id} }

func letter() *DeadLetter {
	at := time.UnixMilli(1_700_000_000_123).UTC()
	return &DeadLetter{Session: ref("s"), Job: "j", Command: "predict", Sequence: 9, Stored: at, Mode: ModeCall, Type: MsgPack, Deadline: 1500 * time.Millisecond,
		Attempts: 2, Reason: []byte(`{"error_category":"timeout","code":"operation_timeout","message":"m","traceback":"t"}`),
		Failures: []Failure{{1, Connection, "worker_died", "a \"quoted\" <word>", "h/1", "", time.UnixMilli(5).UTC()}, {2, Timeout, "operation_timeout", "m", "", "T", time.Time{}}}}
}

func TestADeadLetterKeepsWhatItHolds(t *testing.T) {
	for name, change := range map[string]func(*DeadLetter){
		"session": func(*DeadLetter) {}, "invalid": func(d *DeadLetter) { d.Session, d.Invalid = ref("a b"), true },
		"of a tenant": func(d *DeadLetter) { d.Session.Tenant = "acme" }, "invalid of a tenant": func(d *DeadLetter) { d.Session, d.Invalid = SessionRef{"acme", "a b"}, true },
		"anonymous of a tenant": func(d *DeadLetter) { d.Session, d.Lane, d.Deadline = Anonymous("acme"), LaneBatch, 0 },
		"anonymous":             func(d *DeadLetter) { d.Session, d.Lane, d.Deadline = ref(""), LaneBatch, 0 },
	} {
		d := letter()
		change(d)
		got, err := ParseDeadLetter(d.Subject(), d.Header(1<<20))
		if err != nil || !reflect.DeepEqual(got, d) {
			t.Errorf("%s: %v\n%+v\n%+v", name, err, got, d)
		}
	}
	if c, code, message := letter().Failed(); c != Timeout || code != "operation_timeout" || message != "m" {
		t.Errorf("%s %s %s", c, code, message)
	}
}

func TestLettersOfDifferentJobsHaveDifferentIds(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range []DeadLetter{{Session: ref("s"), Sequence: 1}, {Session: ref("s"), Sequence: 11}, {Session: ref("a"), Sequence: 1}, {Session: ref(""), Sequence: 1}, {Session: ref("x"), Invalid: true, Sequence: 1}, {Session: SessionRef{"acme", "s"}, Sequence: 1}} {
		if seen[d.ID()] {
			t.Errorf("%s twice", d.ID())
		}
		seen[d.ID()] = true
	}
}

func TestALetterFitsIntoAMessageWhateverItsErrorsSay(t *testing.T) {
	for _, most := range []int{32 << 10, 64 << 10, 1 << 20} {
		d := letter()
		d.Failures = nil
		for n := range 21 {
			d.Failures = append(d.Failures, NewFailure(n+1, &Error{Category: Initialization, Code: strings.Repeat("c", 300), Message: strings.Repeat("\"\u2028\x01", 4096), Worker: strings.Repeat("w", 300)}, time.Now()))
		}
		d.Reason = append(append([]byte(`{"error_category":"python","code":"user_error","message":"`), bytes.Repeat([]byte("x"), 64<<10)...), `"}`...)
		size := 0
		for key, values := range d.Header(most) {
			for _, v := range values {
				size += len(key) + len(v) + 4
				if strings.ContainsAny(v, "\r\n") {
					t.Errorf("%s has two lines", key)
				}
			}
		}
		if size > most/3 {
			t.Errorf("max_payload %d: %d bytes of headers", most, size)
		}
		got, err := ParseDeadLetter(d.Subject(), d.Header(most))
		if err != nil || len(got.Failures) == 0 || got.Failures[len(got.Failures)-1].Attempt != 21 {
			t.Errorf("max_payload %d: %v %+v", most, err, got)
		}
		if c, code, message := got.Failed(); c != Python || code != "user_error" || message == "" {
			t.Errorf("max_payload %d: reason %q", most, got.Reason)
		}
	}
}

func TestAHistoryThatIsTooLongLosesItsBeginning(t *testing.T) {
	var list []Failure
	for n := range 20 {
		list = append(list, NewFailure(n+1, &Error{Category: Python, Code: "c", Message: strings.Repeat("é", 4096)}, time.Now()))
	}
	if !utf8.ValidString(list[0].Message) || len(list[0].Message) > historyMessage {
		t.Errorf("message of %d bytes", len(list[0].Message))
	}
	for most, want := range map[int]int{1 << 20: 20, 4 << 10: 20, 1000: 3, 10: 1} {
		got := BoundHistory(append([]Failure(nil), list...), most)
		if len(got) != want || got[len(got)-1].Attempt != 20 || got[len(got)-1].Message == "" {
			t.Errorf("%d bytes: %d failures, the last %+v", most, len(got), got[len(got)-1])
		}
		head := &AttemptRecord{Failures: got}
		if _, err := ParseAttemptRecord(head.Append(nil)); err != nil {
			t.Errorf("%d bytes: %v", most, err)
		}
		if size := len(head.Append(nil)); size > max(most, 900)+100 {
			t.Errorf("%d bytes: the attempt record has %d", most, size)
		}
	}
}

// An earlier version reads what this one writes, and the other way round.
func TestHistoriesInTheFormsOfOtherVersions(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_000)
	old := wire.AppendArray(nil, 8)
	for _, v := range []uint64{RecordVersion, 5, 4, 9, 2, 0, 100} {
		old = wire.AppendUint(old, v)
	}
	old = wire.AppendUint(wire.AppendArray(old, 4), 1)
	old = wire.AppendStr(wire.AppendStr(wire.AppendStr(old, "timeout"), "c"), "m")
	switch h, err := ParseAttemptRecord(old); {
	case err != nil:
		t.Errorf("err must be nil, got %v; %+v %v", err, h, err)
	case len(h.Failures) != 1:
		t.Errorf("len(h.Failures) must be 1, got %v; %+v %v", len(h.Failures), h, err)
	case h.Failures[0].Code != "c":
		t.Errorf(`h.Failures[0].Code must be "c", got %v; %+v %v`, h.Failures[0].Code, h, err)
	case h.Attempt != 2:
		t.Errorf("h.Attempt must be 2, got %v; %+v %v", h.Attempt, h, err)
	}
	written := (&AttemptRecord{Stream: 5, Failures: []Failure{{1, Timeout, "c", "m", "w", "T", at}}}).Append(nil)
	in := wire.NewReader(written)
	if n, err := in.Array(); err != nil || n < 8 {
		t.Fatal(n, err)
	}
	for range 7 {
		if err := in.Skip(); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := in.Array(); err != nil || n != 4 {
		t.Errorf("the eighth field has %d parts: an earlier version expects four for each failure (%v)", n, err)
	}
	outcome := (&Record{Last: &Outcome{Job: "j", Kind: Failed, Body: []byte{0xc0}, Failures: []Failure{{1, Timeout, "c", "m", "w", "T", at}}}}).Append(nil)
	short := bytes.Replace(outcome, wire.AppendArray(nil, 13), wire.AppendArray(nil, 11), 1)
	short = short[:len(short)-len(appendHistoryMore(appendHistory(nil, []Failure{{1, Timeout, "c", "m", "w", "T", at}}), []Failure{{1, Timeout, "c", "m", "w", "T", at}}))]
	if r, err := ParseRecord(short); err != nil || r.Last.Job != "j" || r.Last.Failures != nil {
		t.Errorf("%+v %v", r, err)
	}
}

func TestReplays(t *testing.T) {
	for _, c := range []struct {
		job, want string
		letter    uint64
	}{{"order-1", "order-1-r7", 7}, {"q12", "q12-r7", 7}, {"order-1-r7", "order-1-r19", 19}, {"x-r", "x-r-r1", 1}} {
		got := ReplayJob(c.job, c.letter)
		if got != c.want || ValidJob(got) {
			t.Errorf("replay of %s: %s", c.job, got)
		}
	}
	if env, e := ParseHeaders(map[string][]string{HeaderJob: {"q12-r7"}, HeaderReplay: {"7"}}, 5); e != nil || env.Job != "q12-r7" || !env.Chosen {
		t.Errorf("%+v %v", env, e)
	}
	for _, h := range []map[string][]string{{HeaderJob: {"q12-r7"}}, {HeaderJob: {"q12-r7"}, HeaderReplay: {"8"}}, {HeaderJob: {"x"}, HeaderReplay: {"8"}}, {HeaderReplay: {"8"}}} {
		if _, e := ParseHeaders(h, 5); e == nil {
			t.Errorf("%v was accepted", h)
		}
	}
	if _, e := ParseHeaders(map[string][]string{HeaderJob: {"q12-r7"}, HeaderReplay: {"7"}}, 0); e == nil {
		t.Error("an endpoint accepted a replay")
	}
}
