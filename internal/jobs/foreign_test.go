package jobs

import (
	"testing"
	"time"
)

func TestWhatIsWrittenAmongRecordsAndOutcomesIsOursAndNothingElse(t *testing.T) {
	reply, at := []byte{0xc0}, time.UnixMilli(1)
	record := func(change func(r *Record)) string {
		r := &Record{Stream: 1, LastSequence: 2, Ended: map[uint64]Kind{3: Expired}, Created: at, Updated: at, Last: &Outcome{Job: "j", Kind: Failed, Mode: ModeCall, Body: reply}}
		change(r)
		return string(r.Append(nil))
	}
	head := func(attempt int, delay time.Duration) string {
		return string((&AttemptRecord{Attempt: attempt, Delay: delay, NotBefore: at}).Append(nil))
	}
	result := func(session, job string, kind Kind, body []byte) string {
		return string((&Result{Session: session, Job: job, Kind: kind, Body: body, Stored: at}).Append(nil))
	}
	program := "\x81\xa1v\x01"
	for name, c := range map[string]struct {
		ours       func(key string, value []byte) bool
		key, value string
		want       bool
	}{
		"a record":                                      {OursInSessions, "s.x", record(func(*Record) {}), true},
		"a tenant's record":                             {OursInSessions, "s.acme.x", record(func(*Record) {}), true},
		"an early end that is none":                     {OursInSessions, "s.x", record(func(r *Record) { r.Ended[3] = "gone" }), false},
		"an outcome of no kind":                         {OursInSessions, "s.x", record(func(r *Record) { r.Last.Kind = "" }), false},
		"an outcome without a reply":                    {OursInSessions, "s.x", record(func(r *Record) { r.Last.Body = []byte{0x91} }), false},
		"a tenant's record of nobody":                   {OursInSessions, "s.default.x", record(func(*Record) {}), false},
		"a record under no session's key":               {OursInSessions, "s.a.b.c", record(func(*Record) {}), false},
		"a record under another's key":                  {OursInSessions, "x.x", record(func(*Record) {}), false},
		"a record where an attempt record belongs":      {OursInSessions, "h.x", record(func(*Record) {}), false},
		"an empty record":                               {OursInSessions, "s.x", "", false},
		"no key":                                        {OursInSessions, "s", "", false},
		"an attempt record":                             {OursInSessions, "h.x", head(21, time.Minute), true},
		"an attempt record of a retry that never comes": {OursInSessions, "h.x", head(1, 1000*time.Hour), false},
		"an attempt record of an attempt without end":   {OursInSessions, "h.x", head(1<<40, 0), false},
		"a program":                                     {OursInSessions, "a.p-1", program, true},
		"a program that is none":                        {OursInSessions, "a.p-1", "x", false},
		"a session's result":                            {OursInResults, "r.s.x.j", result("x", "j", Succeeded, reply), true},
		"a tenant's result":                             {OursInResults, "r.s.acme.x.j", result("x", "j", Failed, reply), true},
		"another session's result":                      {OursInResults, "r.s.x.j", result("y", "j", Succeeded, reply), false},
		"another job's result":                          {OursInResults, "r.s.x.j", result("x", "k", Succeeded, reply), false},
		"a result of no kind":                           {OursInResults, "r.s.x.j", result("x", "j", "done", reply), false},
		"a result that breaks its answer":               {OursInResults, "r.s.x.j", result("x", "j", Succeeded, []byte{0x92, 1}), false},
		"an anonymous result":                           {OursInResults, "r.a.j", result("", "j", Cancelled, reply), true},
		"a tenant's anonymous result":                   {OursInResults, "r.a.acme.j", result("", "j", Expired, reply), true},
		"a session's result at an anonymous":            {OursInResults, "r.a.j", result("x", "j", Succeeded, reply), false},
		"attempts":                                      {OursInResults, "t.j", head(2, 0), true},
		"a result under no job's key":                   {OursInResults, "r.s.x", result("x", "x", Succeeded, reply), false},
		"a result under a key that is unused":           {OursInResults, "q.x", result("", "x", Succeeded, reply), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.ours(c.key, []byte(c.value)); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
