package batch

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dspex/dspex/internal/jobs"
)

// world is a broker, hosts and one leader after another, as far as a batch sees them. Anything may be lost, late or repeated.
type world struct {
	*rapid.T
	now   time.Time
	lines []Line

	record    Record
	revision  int
	parts     map[int][]Save // chunk -> its parts
	queue     []int          // jobs at the broker, in the order stored
	results   map[int]End
	ran       []int // jobs that were run, in that order
	fed       map[int]bool
	replies   []int // of jobs, on their way to the leader that published them
	announced int

	run     *Run
	knows   int // revision
	pending []Action
	late    []lateAction // what leaders before had sent, and the broker has not got yet
	faults  bool
	kills   int
}

// lateAction is fenced: it has its effect only if nothing else was written since.
type lateAction struct {
	do    Action
	knows int
}

func newWorld(t *rapid.T) *world {
	w := &world{T: t, now: time.Unix(1_800_000_000, 0), parts: map[int][]Save{}, results: map[int]End{}, fed: map[int]bool{}, faults: true}
	for range rapid.IntRange(1, 40).Draw(t, "jobs") {
		l := Line{Body: []byte{0x80}, Session: rapid.SampledFrom([]string{"", "", "a", "b"}).Draw(t, "session")}
		if rapid.IntRange(0, 9).Draw(t, "bad") == 0 {
			l.Body, l.Bad = nil, (&jobs.Reply{Err: jobs.Errorf(jobs.Python, jobs.CodeBadOption, "bad")}).Append(nil)
		}
		w.lines = append(w.lines, l)
	}
	w.record = Record{Schema: 1, Batch: "b", Tenant: "default", Key: "k", Phase: Running, Jobs: len(w.lines), Keep: time.Hour,
		Concurrency: rapid.IntRange(1, 12).Draw(t, "concurrency")}
	w.revision = 1
	w.lead()
	return w
}

// lead begins a leader with what is stored.
func (w *world) lead() {
	w.run, w.pending, w.replies = nil, nil, nil
	if !w.record.Waits() {
		return
	}
	r := w.record
	w.run, w.knows = NewRun(&r, 1<<20), w.revision
	w.step(Tick{})
}

func (w *world) step(events ...Event) {
	if w.run == nil {
		return
	}
	before := w.run.lane
	defer w.bounded(w.run, before)
	for _, do := range w.run.Step(w.now, w.now.Add(-24*time.Hour), events...) {
		if _, stop := do.(Stop); stop {
			w.lead() // a leader looks again at what is there
			return
		}
		w.pending = append(w.pending, do)
	}
	if w.run.rec.Phase == Running && w.run.flight > w.record.Concurrency {
		w.Fatalf("%d jobs are under way, %d are allowed", w.run.flight, w.record.Concurrency)
	}
}

// bounded checks how many jobs without session a run has at the broker.
func (w *world) bounded(r *Run, before int) {
	n := 0
	for _, c := range r.chunks {
		for i := range c.jobs {
			if j := &c.jobs[i]; j.session == nil && (j.state == feeding || j.state == fed || j.state == halting) {
				n++
			}
		}
	}
	if n != r.lane {
		w.Fatalf("%d jobs without session are at the broker, counted are %d", n, r.lane)
	}
	if r.rec.Phase == Running && r.laneMost > 0 && n > max(before, r.laneMost) {
		w.Fatalf("%d jobs without session are at the broker after %d, %d are allowed", n, before, r.laneMost)
	}
}

// chance is true once in n times, while faults strike.
func (w *world) chance(in int, what string) bool {
	return w.faults && rapid.IntRange(1, in).Draw(w.T, what) == 1
}

// answer carries out one pending action, any of them, or several whose answers come together.
func (w *world) answer() {
	if len(w.pending) == 0 {
		w.tick()
		return
	}
	var events []Event
	for range rapid.IntRange(1, min(len(w.pending), 4)).Draw(w.T, "together") {
		i := rapid.IntRange(0, len(w.pending)-1).Draw(w.T, "action")
		do := w.pending[i]
		w.pending = slices.Delete(w.pending, i, i+1)
		done := !w.chance(8, "not done")
		known := done && !w.chance(8, "answer lost")
		events = append(events, w.carryOut(do, done, known))
	}
	w.step(events...)
}

// size of chunks in this world.
const size = 3

func (w *world) carryOut(do Action, done, known bool) Event {
	switch do := do.(type) {
	case Open:
		if !known {
			return NotLoaded{First: do.First}
		}
		return w.load(do.First)
	case Feed:
		if done {
			w.publish(do.Index)
		}
		if !known {
			return NotFed(do)
		}
		return Fed(do)
	case Look:
		e := Looked{}
		for _, index := range do.Indexes {
			if end, ok := w.results[index]; ok && known {
				e.Ended = append(e.Ended, end)
			}
		}
		return e
	case Cancel:
		end := w.cancel(do.Index, done)
		if !known {
			return NotStopped(do)
		}
		return Stopped{do.Index, end}
	case Save:
		taken := len(w.parts[do.First]) != do.Part
		if done && !taken {
			w.parts[do.First] = append(w.parts[do.First], do)
		}
		if !known || taken {
			return NotSaved{do.First, do.Part, taken || done}
		}
		return Saved{do.First, do.Part}
	case Write:
		if done && w.knows == w.revision {
			w.write(do.Record)
			w.knows = w.revision
			if known {
				return Written{}
			}
		}
		if !done && w.knows == w.revision {
			return NotWritten{}
		}
		w.knows = w.revision
		r := w.record
		return Changed{&r}
	case Announce:
		w.announced++
		return Announced{}
	}
	w.Fatalf("unknown action %T", do)
	return nil
}

func (w *world) write(r Record) {
	switch {
	case r.Opened < w.record.Opened, r.Stored < w.record.Stored:
		w.Fatalf("the record goes back: %+v after %+v", r, w.record)
	case w.record.Phase == Ended && r.Phase != Ended:
		w.Fatalf("a batch that has ended is %s again", r.Phase)
	}
	w.record = r
	w.revision++
}

func (w *world) load(first int) Event {
	e := Loaded{First: first, Lines: w.lines[first:min(first+size, len(w.lines))], Parts: len(w.parts[first])}
	for _, p := range w.parts[first] {
		e.Ended = append(e.Ended, p.Ended...)
	}
	for i := range e.Lines {
		if end, ok := w.results[first+i]; ok {
			e.Seen = append(e.Seen, end)
		}
	}
	return e
}

func (w *world) publish(index int) {
	if index >= w.record.Opened {
		w.Fatalf("job %d is published, but the record says that none from %d on is", index, w.record.Opened)
	}
	if len(w.lines[index].Bad) > 0 {
		w.Fatalf("job %d is published, which cannot be run", index)
	}
	w.fed[index] = true
	w.queue = append(w.queue, index)
}

func (w *world) cancel(index int, done bool) *End {
	if _, has := w.results[index]; !has && done {
		at := slices.Index(w.queue, index)
		if at < 0 {
			return nil
		}
		w.queue = slices.Delete(w.queue, at, at+1)
		w.results[index] = End{Index: index, Kind: jobs.Cancelled, Code: jobs.CodeCancelled, Bytes: 100}
	}
	if end, has := w.results[index]; has {
		return &end
	}
	return nil
}

// host runs one job: the first of its session, or any without one. A job whose result is there is not run again.
func (w *world) host() {
	var next []int
	busy := map[string]bool{}
	for i, index := range w.queue {
		s := w.lines[index].Session
		if s == "" || !busy[s] {
			next = append(next, i)
		}
		busy[s] = true
	}
	if len(next) == 0 {
		return
	}
	at := rapid.SampledFrom(next).Draw(w.T, "host")
	index := w.queue[at]
	w.queue = slices.Delete(w.queue, at, at+1)
	defer func() { w.replies = append(w.replies, index) }()
	if _, has := w.results[index]; has {
		return
	}
	w.ran = append(w.ran, index)
	w.results[index] = End{Index: index, Kind: rapid.SampledFrom([]jobs.Kind{jobs.Succeeded, jobs.Succeeded, jobs.Failed, jobs.Expired}).Draw(w.T, "kind"),
		Bytes: rapid.SampledFrom([]int{100, 40_000, 100_000}).Draw(w.T, "bytes")}
}

// reply brings one of the replies, or loses it, or brings it twice. Only that of a job that has succeeded has the outcome.
func (w *world) reply() {
	if len(w.replies) == 0 {
		return
	}
	i := rapid.IntRange(0, len(w.replies)-1).Draw(w.T, "reply")
	e := Replied{Index: w.replies[i]}
	if !w.chance(4, "again") {
		w.replies = slices.Delete(w.replies, i, i+1)
	}
	if end := w.results[e.Index]; end.Kind == jobs.Succeeded {
		e.Ended = &end
	}
	if !w.chance(3, "reply lost") {
		w.step(e)
	}
}

// kill ends the leader. What it had sent may arrive all the same.
func (w *world) kill() {
	for _, do := range w.pending {
		_, saves := do.(Save)
		_, writes := do.(Write)
		switch {
		case (saves || writes) && w.chance(2, "later"):
			w.late = append(w.late, lateAction{do, w.knows})
		case w.chance(2, "late"):
			w.carryOut(do, true, false)
		}
	}
	w.kills++
	w.lead()
}

// arrive lets the broker get what a leader before has sent: the present one has no record of it.
func (w *world) arrive() {
	if len(w.late) == 0 {
		return
	}
	l := w.late[0]
	w.late = w.late[1:]
	switch do := l.do.(type) {
	case Save:
		if len(w.parts[do.First]) == do.Part {
			w.parts[do.First] = append(w.parts[do.First], do)
		}
	case Write:
		if l.knows == w.revision {
			w.write(do.Record)
		}
	}
}

func (w *world) tick() {
	if w.run == nil {
		return
	}
	if next := w.run.Next(w.now); next.After(w.now) {
		w.now = next
	}
	if w.chance(20, "long") {
		w.now = w.now.Add(10 * time.Minute)
	}
	w.step(Tick{})
}

func (w *world) askCancel() {
	if w.record.Phase == Running {
		w.record.Phase = Cancelling
		w.revision++
	}
}

// notice passes a change to the leader that is not its own, unless a write of its own will.
func (w *world) notice() {
	writes := slices.ContainsFunc(w.pending, func(a Action) bool { _, is := a.(Write); return is })
	if w.run != nil && !writes && w.knows != w.revision {
		w.knows = w.revision
		r := w.record
		w.step(Changed{&r})
	}
}

func TestEachJobOfABatchHasOneOutcomeWhateverIsLostLateOrRepeated(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		for range rapid.IntRange(0, 300).Draw(t, "steps") {
			switch n := rapid.IntRange(0, 99).Draw(t, "what"); {
			case n < 50:
				w.answer()
			case n < 70:
				w.host()
			case n < 80:
				w.reply()
			case n < 90:
				w.tick()
			case n < 91:
				w.notice()
			case n < 92:
				w.step(Lane{rapid.IntRange(0, 5).Draw(t, "lane now")})
			case n < 95:
				w.kill()
			case n < 98:
				w.arrive()
			case n < 99:
				w.askCancel()
			default:
				w.step(Lane{rapid.IntRange(0, 5).Draw(t, "lane")})
			}
		}
		w.faults = false
		for i := 0; w.run != nil; i++ {
			if i > 20_000 {
				t.Fatalf("the batch does not end: %+v, %d at the broker, pending %T", w.record, len(w.queue), w.pending)
			}
			w.notice()
			w.host()
			if i%3 == 0 {
				w.reply()
			}
			w.answer()
		}
		w.judge()
	})
}

// judge checks what is stored in the end.
func (w *world) judge() {
	if w.record.Phase != Ended || !w.record.Announced || w.announced == 0 {
		w.Fatalf("the batch has not ended: %+v", w.record)
	}
	var tally Tally
	for index := range w.lines {
		var end *End
		for _, p := range w.parts[index/size*size] {
			for _, e := range p.Ended {
				if e.Index == index && end == nil {
					end = &e
				}
			}
		}
		result, has := w.results[index]
		switch {
		case index >= w.record.Opened:
			if end != nil || has || w.fed[index] {
				w.Fatalf("job %d was published, and the batch says that it was cancelled before", index)
			}
			end = &End{Kind: jobs.Cancelled}
		case end == nil:
			w.Fatalf("job %d has no outcome", index)
		case has && end.Kind != result.Kind:
			w.Fatalf("job %d is %s, and in its batch %s", index, result.Kind, end.Kind)
		case !has && !end.Unrun:
			w.Fatalf("job %d is %s without a result", index, end.Kind)
		case !has && slices.Contains(w.queue, index):
			w.Fatalf("job %d is %s in its batch and waits to be run", index, end.Kind)
		}
		end.Code = ""
		tally.add(*end)
	}
	switch got := w.record.Tally; {
	case got.Succeeded != tally.Succeeded:
		w.Fatalf("got.Succeeded must be tally.Succeeded, got %v; the tally is %+v, the outcomes are %+v", got.Succeeded, got, tally)
	case got.Failed != tally.Failed:
		w.Fatalf("got.Failed must be tally.Failed, got %v; the tally is %+v, the outcomes are %+v", got.Failed, got, tally)
	case got.Cancelled != tally.Cancelled:
		w.Fatalf("got.Cancelled must be tally.Cancelled, got %v; the tally is %+v, the outcomes are %+v", got.Cancelled, got, tally)
	case got.Errors[jobs.CodeCancelled] != tally.Cancelled:
		w.Fatalf("the errors must have %d that were cancelled, got %v", tally.Cancelled, got.Errors)
	case got.Expired != tally.Expired:
		w.Fatalf("got.Expired must be tally.Expired, got %v; the tally is %+v, the outcomes are %+v", got.Expired, got, tally)
	}
	last := map[string]int{}
	for _, index := range w.ran {
		s := w.lines[index].Session
		if before, ran := last[s]; s != "" && ran && before >= index {
			w.Fatalf("job %d of session %s ran after job %d", index, s, before)
		}
		last[s] = index
	}
	seen := map[int]bool{}
	for _, index := range w.ran {
		if seen[index] {
			w.Fatalf("job %d ran twice", index)
		}
		seen[index] = true
	}
}

func TestAWorldWithoutFaultsEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.faults = false
		for i := 0; w.run != nil; i++ {
			if i > 20_000 {
				t.Fatalf("the batch does not end: %+v", w.record)
			}
			w.host()
			w.answer()
		}
		w.judge()
		if w.record.Tally.Cancelled != 0 || len(w.queue) != 0 {
			t.Fatalf("cancelled %d, left %d", w.record.Tally.Cancelled, len(w.queue))
		}
	})
}
