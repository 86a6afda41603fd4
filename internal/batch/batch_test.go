package batch

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

var t0 = time.Unix(1_800_000_000, 0)

// brokers is the broker's time. It has nothing to do with t0.
var brokers = time.Unix(1_700_000_000, 0)

func step(r *Run, now time.Time, e Event) []Action { return r.Step(now, brokers, e) }

// of is the only action of a kind among those of a step.
func of[A Action](t *testing.T, all []Action) A {
	t.Helper()
	for _, a := range all {
		if a, ok := a.(A); ok {
			return a
		}
	}
	var none A
	t.Fatalf("no %T among %#v", none, all)
	return none
}

func record(n int) *Record {
	return &Record{Schema: 1, Batch: "b", Tenant: "default", Key: "k", Phase: Running, Jobs: n, Concurrency: 4, Keep: time.Hour}
}

func lines(n int, session string) (all []Line) {
	for range n {
		all = append(all, Line{Session: session, Body: []byte{0x80}})
	}
	return all
}

// opened is a run whose only chunk is open, and what it does then.
func opened(t *testing.T, n int, session string) (*Run, []Action) {
	t.Helper()
	r := NewRun(record(n), 1<<20)
	of[Open](t, step(r, t0, Tick{}))
	do := step(r, t0, Loaded{First: 0, Lines: lines(n, session)})
	if got := of[Write](t, do).Record.Opened; got != n {
		t.Fatalf("opened is %d before the first job is published, want %d", got, n)
	}
	return r, step(r, t0, Written{})
}

func feeds(all []Action) (indexes []int) {
	for _, a := range all {
		if f, ok := a.(Feed); ok {
			indexes = append(indexes, f.Index)
		}
	}
	return indexes
}

func TestTheWindowBoundsWhatIsAtTheBroker(t *testing.T) {
	r, do := opened(t, 10, "")
	if got := feeds(do); !slices.Equal(got, []int{0, 1, 2, 3}) {
		t.Fatalf("published %v, want 4 jobs", got)
	}
	step(r, t0, Fed{0})
	do = step(r, t0.Add(time.Second), Tick{})
	if got := of[Look](t, do).Indexes; !slices.Equal(got, []int{0}) {
		t.Fatalf("looks at %v, want what the broker holds", got)
	}
	if got := feeds(step(r, t0.Add(time.Second), Looked{[]End{{Index: 0, Kind: jobs.Succeeded, Bytes: 10}}})); !slices.Equal(got, []int{4}) {
		t.Fatalf("published %v, want one for the one that has ended", got)
	}
}

func TestABoundInTheLaneIsForJobsWithoutSession(t *testing.T) {
	r := NewRun(record(10), 1<<20)
	if n := r.Lane(); n != 4 {
		t.Errorf("before its jobs are read it wants %d, expected its window", n)
	}
	step(r, t0, Tick{})
	step(r, t0, Loaded{First: 0, Lines: append(append(lines(5, ""), lines(1, "s")...), lines(4, "")...)})
	step(r, t0, Lane{2})
	if got := feeds(step(r, t0, Written{})); !slices.Equal(got, []int{0, 1, 5}) {
		t.Errorf("published %v, want two without session and the one of the session", got)
	}
	if n := r.Lane(); n != 4 {
		t.Errorf("it wants %d, expected its window", n)
	}
	if got := feeds(step(r, t0, Lane{1})); len(got) > 0 {
		t.Errorf("published %v, want none above a lower bound", got)
	}
	if got := feeds(step(r, t0, Looked{[]End{{Index: 0, Kind: jobs.Succeeded, Bytes: 10}}})); len(got) > 0 {
		t.Errorf("published %v, want none while one is there", got)
	}
	if got := feeds(step(r, t0, Looked{[]End{{Index: 1, Kind: jobs.Succeeded, Bytes: 10}}})); !slices.Equal(got, []int{2}) {
		t.Errorf("published %v, want one for the one that has ended", got)
	}
	if got := feeds(step(r, t0, Lane{0})); !slices.Equal(got, []int{3, 4}) {
		t.Errorf("published %v, want what the window allows", got)
	}
}

func TestABatchWithSessionsAloneWantsNothingOfTheLane(t *testing.T) {
	if r, _ := opened(t, 5, "s"); r.Lane() != 0 {
		t.Errorf("it wants %d", r.Lane())
	}
}

func TestAJobOfASessionFollowsTheOneBeforeWhenTheBrokerHoldsThat(t *testing.T) {
	r, do := opened(t, 3, "s")
	if got := feeds(do); !slices.Equal(got, []int{0}) {
		t.Fatalf("published %v, want the first one alone", got)
	}
	if got := feeds(step(r, t0, Fed{0})); !slices.Equal(got, []int{1}) {
		t.Fatalf("published %v, want the second one", got)
	}
	step(r, t0, NotFed{1})
	if got := feeds(step(r, t0.Add(2*time.Second), Tick{})); !slices.Equal(got, []int{1}) {
		t.Fatalf("published %v, want the second one again", got)
	}
}

func TestAJobWithoutAnOutcomeIsPublishedAgainEachTimeAfterTwiceAsLong(t *testing.T) {
	r, _ := opened(t, 1, "")
	now := t0
	step(r, now, Fed{0})
	for _, wait := range []time.Duration{feedAgain, 2 * feedAgain} {
		if got := feeds(step(r, now.Add(wait-time.Second), Tick{})); len(got) > 0 {
			t.Fatalf("published again before %v", wait)
		}
		now = now.Add(wait)
		if got := feeds(step(r, now, Tick{})); !slices.Equal(got, []int{0}) {
			t.Fatalf("not published again after %v", wait)
		}
		step(r, now, Fed{0})
	}
}

func TestACancelledBatchNeverOpensTheRest(t *testing.T) {
	rec := record(1_000_000)
	r := NewRun(rec, 1<<20)
	step(r, t0, Tick{})
	stopped := *rec
	stopped.Phase = Cancelling
	step(r, t0, Changed{&stopped})
	end := of[Write](t, step(r, t0, NotLoaded{First: 0})).Record
	if end.Phase != Ended {
		t.Errorf("the batch must have ended, got phase %v", end.Phase)
	}
	if end.Tally.Cancelled != 1_000_000 {
		t.Errorf("1,000,000 jobs must be cancelled, got %d", end.Tally.Cancelled)
	}
	if n := end.Tally.Errors["cancelled"]; n != 1_000_000 {
		t.Errorf("1,000,000 errors must be cancelled, got %d", n)
	}
	if end.Opened != 0 {
		t.Errorf("the record alone must cancel them, got %d opened chunks", end.Opened)
	}
}

// TestWhatAnotherLeaderHasOpenedIsStoppedAtTheBroker: a leader that began with an old record is about to open jobs, and finds that they are open
// and cancelled. Whether that was its own write or another leader's, is unknown: they may have been published.
func TestWhatAnotherLeaderHasOpenedIsStoppedAtTheBroker(t *testing.T) {
	r := NewRun(record(3), 1<<20)
	step(r, t0, Tick{})
	of[Write](t, step(r, t0, Loaded{First: 0, Lines: lines(3, "")}))
	is := *record(3)
	is.Opened, is.Phase = 3, Cancelling
	if do := of[Cancel](t, step(r, t0, Changed{&is})); do.Index != 0 {
		t.Errorf("the first job that is stopped is %d, want 0", do.Index)
	}
}

func TestALeaderThatSeesAnothersProgressStops(t *testing.T) {
	for name, change := range map[string]func(*Record){
		"opened":  func(r *Record) { r.Opened = 500 },
		"settled": func(r *Record) { r.Opened, r.Stored = 4, 4 },
		"ended":   func(r *Record) { r.Phase = Ended },
		"removed": func(r *Record) { r.Phase = Removing },
		"another": func(r *Record) { r.Key = "k2" },
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := opened(t, 4, "")
			is := *record(4)
			change(&is)
			of[Stop](t, step(r, t0, Changed{&is}))
			if do := step(r, t0.Add(time.Hour), Tick{}); do != nil {
				t.Fatalf("it goes on: %v", do)
			}
		})
	}
}

func TestOutcomesAreStoredWhenTheyFillAPartOrHaveWaitedOrAllAreThere(t *testing.T) {
	r, _ := opened(t, 4, "")
	for i := range 4 {
		step(r, t0, Fed{i})
	}
	step(r, t0.Add(time.Second), Tick{})
	do := step(r, t0.Add(time.Second), Looked{[]End{{Index: 2, Kind: jobs.Succeeded, Bytes: mostPart}, {Index: 3, Kind: jobs.Succeeded, Bytes: 5}}})
	s := of[Save](t, do)
	if len(s.Ended) != 1 || s.Part != 0 {
		t.Fatalf("the first part is %+v, want one outcome, which fills it", s)
	}
	step(r, t0.Add(time.Second), Saved{0, 0})
	late := t0.Add(saveAfter + time.Second)
	if s = of[Save](t, step(r, late, Tick{})); len(s.Ended) != 1 || s.Ended[0].Index != 3 || s.Part != 1 {
		t.Fatalf("the second part is %+v, want what has waited", s)
	}
	step(r, late, Saved{0, 1})
	if s = of[Save](t, step(r, late, Looked{[]End{{Index: 0, Kind: jobs.Failed, Code: "x", Bytes: 5}, {Index: 1, Kind: jobs.Succeeded, Bytes: 5}}})); len(s.Ended) != 2 {
		t.Fatalf("the last part is %+v, want the rest at once", s)
	}
	step(r, late, Saved{0, 2})
	w := of[Write](t, step(r, late, Written{})).Record // behind one that reports progress
	switch {
	case w.Phase != Ended:
		t.Fatalf("w.Phase must be Ended, got %v; the record is %+v", w.Phase, w)
	case w.Tally.Succeeded != 3:
		t.Fatalf("w.Tally.Succeeded must be 3, got %v; the record is %+v", w.Tally.Succeeded, w)
	case w.Tally.Errors["x"] != 1:
		t.Fatalf(`w.Tally.Errors["x"] must be 1, got %v; the record is %+v`, w.Tally.Errors["x"], w)
	case !w.Expires.Equal(brokers.Add(time.Hour)):
		t.Fatalf("must hold: w.Expires.Equal(brokers.Add(time.Hour)); the record is %+v", w)
	}
	of[Announce](t, step(r, late, Written{}))
	if w = of[Write](t, step(r, late, Announced{})).Record; !w.Announced {
		t.Fatal("that the end was told is not stored")
	}
	of[Stop](t, step(r, late, Written{}))
}

func TestABatchWhoseJobsAreGoneEndsAndSaysSo(t *testing.T) {
	r := NewRun(record(300), 1<<20)
	step(r, t0, Tick{})
	w := of[Write](t, step(r, t0, NotLoaded{First: 0, Gone: true})).Record
	if w.Phase != Ended || !w.Lost || w.Stored != 0 {
		t.Fatalf("the record is %+v, want an end that names the loss", w)
	}
}

func TestTheDigestDoesNotDependOnChunks(t *testing.T) {
	all := []Line{{Session: "a", Body: []byte{0x80}}, {ID: "x", Body: []byte{0x81, 0xa1, 'a', 1}}, {Bad: []byte{0x80}}}
	whole := Digest{}.Add(&Chunk{Lines: all})
	if cut := (Digest{}).Add(&Chunk{Lines: all[:1]}).Add(&Chunk{First: 1, Lines: all[1:]}); cut != whole {
		t.Fatal("another cut has another digest")
	}
	if other := (Digest{}).Add(&Chunk{Lines: []Line{all[1], all[0], all[2]}}); other == whole {
		t.Fatal("another order has the same digest")
	}
}

func TestWhatIsStoredIsReadAgain(t *testing.T) {
	c := &Chunk{First: 7, Lines: []Line{{ID: "x", Session: "s", Body: []byte{0x80}}, {Bad: []byte{0x80}}}}
	stored := c.Append(nil)
	back, err := ParseChunk(stored)
	if err != nil {
		t.Fatal(err)
	}
	if back.First != 7 || !bytes.Equal(back.Append(nil), stored) {
		t.Fatalf("read %+v", back)
	}
	p := &Part{Outcomes: []Outcome{{Index: 9, Kind: jobs.Failed, Attempts: 2, Reply: []byte{0x80}}}}
	again, err := ParsePart(p.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case len(again.Outcomes) != 1:
		t.Fatalf("len(again.Outcomes) must be 1, got %v; read %+v", len(again.Outcomes), again)
	case again.Outcomes[0].Index != 9:
		t.Fatalf("again.Outcomes[0].Index must be 9, got %v; read %+v", again.Outcomes[0].Index, again)
	case again.Outcomes[0].Kind != jobs.Failed:
		t.Fatalf("again.Outcomes[0].Kind must be jobs.Failed, got %v; read %+v", again.Outcomes[0].Kind, again)
	case again.Outcomes[0].Attempts != 2:
		t.Fatalf("again.Outcomes[0].Attempts must be 2, got %v; read %+v", again.Outcomes[0].Attempts, again)
	}
	newer := wire.AppendUint(wire.AppendArray(nil, 1), RecordVersion+1)
	if _, err := ParseChunk(newer); !errors.Is(err, ErrNewer) {
		t.Errorf("a newer chunk is %v", err)
	}
	if _, err := ParsePart(newer); !errors.Is(err, ErrNewer) {
		t.Errorf("a newer part is %v", err)
	}
	if _, err := ParseRecord([]byte(`{"schema": 2, "key": "k"}`)); !errors.Is(err, ErrNewer) {
		t.Errorf("a newer record is %v", err)
	}
}

func TestFactsOfAReply(t *testing.T) {
	usage := wire.AppendMap(nil, 1)
	usage = wire.AppendMap(wire.AppendStr(usage, "openai/m"), 2)
	usage = wire.AppendInt(wire.AppendStr(usage, "prompt_tokens"), 7)
	usage = wire.AppendNil(wire.AppendStr(usage, "details"))
	code, used := Facts((&jobs.Reply{Job: "j", Attempt: 1, Usage: usage, Err: jobs.Errorf(jobs.Python, jobs.CodeBadInput, "x")}).Append(nil))
	if code != jobs.CodeBadInput || used["openai/m"]["prompt_tokens"] != 7 || len(used["openai/m"]) != 1 {
		t.Fatalf("code %q, usage %v", code, used)
	}
}

func TestIdsOfJobsMayBeChosen(t *testing.T) {
	if id := JobID(NewKey(), MaxJobs-1); !jobs.ValidJob(id) {
		t.Fatalf("%s is not an id that a client may choose", id)
	}
}

// TestABatchThatAnotherLeaderHasChangedIsLeftToIt: nothing is published or written any more.
func TestABatchThatAnotherLeaderHasChangedIsLeftToIt(t *testing.T) {
	for name, change := range map[string]func(*Record){
		"it has published more":    func(r *Record) { r.Opened = 9 },
		"it has stored outcomes":   func(r *Record) { r.Stored = 2 },
		"the batch has ended":      func(r *Record) { r.Phase = Ended },
		"the batch is removed":     func(r *Record) { r.Phase = Removing },
		"it is another of that id": func(r *Record) { r.Key = "other" },
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := opened(t, 4, "")
			is := r.rec
			change(&is)
			if do := step(r, t0, Changed{&is}); !slices.Equal(do, []Action{Stop{}}) {
				t.Errorf("it does %#v, expected that it stops", do)
			}
		})
	}
}
