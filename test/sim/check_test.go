package sim

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

// checker reads a history and collects what contradicts the promises.
type checker struct {
	h    *history
	idle time.Duration
	bad  []string

	outcomes       map[string][]event         // session/job -> its results: one in each lifetime of a result
	commits        map[string][]event         // session -> its commits, in order
	messages       map[string][]event         // session -> stored jobs, in stream order
	attemptRecords map[string][]event         // session -> attempt records of its jobs, in order
	first          map[string]event           // session/job -> its first message
	objects        map[string]string          // id -> a large result
	forgot         map[string][]time.Duration // result key -> when a result's lifetime was over
	gone           map[string][]time.Duration // session -> when its record's was
	losses         []event                    // of stores, with all that was in them
	vanished       map[string][]event         // session/job -> its messages that were lost with the stream before they had ended
}

// check returns the violations of a history.
func check(h *history, idle time.Duration) []string {
	c := &checker{h: h, idle: idle, outcomes: map[string][]event{}, commits: map[string][]event{}, attemptRecords: map[string][]event{}, messages: map[string][]event{}, first: map[string]event{}, objects: map[string]string{}, forgot: map[string][]time.Duration{}, gone: map[string][]time.Duration{}, vanished: map[string][]event{}}
	h.each(func(e event) { c.fail("at the end: %s", e.text) }, final)
	h.each(func(e event) { c.fail("%s waits for ever: %s", e.who, e.text) }, stuck)
	c.readJobs()
	c.oneOutcome()
	c.commitsInOrder()
	c.resultsAreCommitted()
	c.objectsComeFirst()
	c.uploadsAreThere()
	c.everyJobEnds()
	c.pairsAreWhole()
	c.answersAreOutcomes()
	c.startsInOrder()
	c.attemptsAllowed()
	c.nothingStartsAfterItsEnd()
	c.retriesWait()
	c.nothingExpiresEarly()
	c.lossesAreNamed()
	c.stateContinues()
	c.deadLetters()
	c.programsFollow()
	c.batchesEnd()
	return c.bad
}

func (c *checker) fail(format string, args ...any) {
	c.bad = append(c.bad, fmt.Sprintf(format, args...))
}

func key(e event) string { return e.session + "/" + e.job }

func (c *checker) readJobs() {
	gone := c.vanishes()
	c.h.each(func(e event) {
		if gone(e) {
			c.vanished[key(e)] = append(c.vanished[key(e)], e)
			return
		}
		c.messages[e.session] = append(c.messages[e.session], e)
		if _, again := c.first[key(e)]; !again {
			c.first[key(e)] = e
		}
	}, stored)
	c.h.each(func(e event) { c.attemptRecords[e.session] = append(c.attemptRecords[e.session], e) }, attemptRecorded)
	c.h.each(func(e event) { c.losses = append(c.losses, e) }, lost)
	c.h.each(func(e event) {
		c.forgot[e.text] = append(c.forgot[e.text], e.at)
		if e.session != "" {
			c.gone[e.session] = append(c.gone[e.session], e.at)
		}
	}, removed)
}

// vanishes reports of messages whether they were lost with their stream, before their jobs had ended.
func (c *checker) vanishes() func(event) bool {
	strikes, done := map[string]time.Duration{}, map[string]bool{} // the last of each stream
	message := func(e event) string { return fmt.Sprint(e.session, "/", e.seq, "/", e.job) }
	c.h.each(func(e event) { strikes[e.text] = e.at }, lost)
	c.h.each(func(e event) {
		recordToo := e.kind == committed && c.h.struck(emptied) && e.at <= strikes[stores[recordsLost]]
		done[message(e)] = done[message(e)] || !recordToo
	}, resulted, committed)
	return func(e event) bool {
		from := stores[jobsLost]
		if e.session == "" {
			from = stores[anonymousLost]
		}
		at, struck := strikes[from]
		return struck && e.at <= at && !done[message(e)]
	}
}

// lostBetween reports whether a store was lost in a span of time.
func (c *checker) lostBetween(k faultKind, from, to time.Duration) bool {
	return slices.ContainsFunc(c.losses, func(e event) bool { return e.text == stores[k] && from <= e.at && e.at <= to })
}

// forgotten is how many results of a job had expired at a time: an id is kept as long as its result.
func (c *checker) forgotten(e event, at time.Duration) int {
	n := 0
	for _, t := range c.forgot[resultKey(e)] {
		if t <= at {
			n++
		}
	}
	return n
}

// messageOf is the message that an execution or a commit belongs to: the first one with its id. After the id has expired
// it is the one that the attempt record names: repeats that came before were answered and do not run.
func (c *checker) messageOf(e event) (m event, known bool) {
	if lost, ever := c.vanished[key(e)]; ever {
		if m, again := c.first[key(e)]; !again || e.at < m.at {
			return lost[0], true
		}
	}
	n := c.forgotten(e, e.at)
	if n == 0 || n > len(c.outcomes[key(e)]) {
		m, known = c.first[key(e)]
		return m, known
	}
	seq := e.seq
	for _, hd := range c.attemptRecords[e.session] {
		if e.kind == began && hd.at <= e.at {
			seq = hd.seq
		}
	}
	last := c.outcomes[key(e)][n-1]
	for _, other := range c.messages[e.session] {
		if other.job == e.job && other.seq > last.seq && (!known || other.seq == seq) {
			m, known = other, true
		}
	}
	return m, known
}

// oneOutcome: a result is written once and never changes, as long as it lives.
func (c *checker) oneOutcome() {
	c.h.each(func(e event) {
		before := c.outcomes[key(e)]
		if len(before) > c.forgotten(e, e.at) {
			c.fail("%s has two outcomes: %s at %v, %s at %v", key(e), before[0].text, before[0].at, e.text, e.at)
		}
		c.outcomes[key(e)] = append(before, e)
	}, resulted)
}

// commitsInOrder: a session's sequences commit in order, each once, and epochs never go back.
func (c *checker) commitsInOrder() {
	expired := map[string]bool{}
	c.h.each(func(e event) {
		list := c.commits[e.session]
		if e.kind == removed {
			expired[e.session] = true
			return
		}
		if e.record.Last != nil && e.record.Last.Sequence != e.seq {
			return // the last outcome of a lost stream, until its result is stored
		}
		if len(list) > 0 {
			last := list[len(list)-1]
			switch {
			case expired[e.session]: // sequences count again
				e.fresh = true
			case e.seq == 0 && (c.lostBetween(recordsLost, 0, e.at) || c.lostBetween(jobsLost, 0, e.at)): // a record that is made again, or for the new stream
			case e.seq < last.seq:
				c.fail("session %s: sequence %d is committed after %d", e.session, e.seq, last.seq)
			case e.seq == last.seq && !c.lostBetween(recordsLost, last.at, e.at) && (e.body != last.body || e.attempt != last.attempt):
				c.fail("session %s: sequence %d is committed twice (attempts %d and %d)", e.session, e.seq, last.attempt, e.attempt)
			}
			if e.record.Last != nil && e.epoch < last.epoch {
				c.fail("session %s: epoch %d commits after epoch %d", e.session, e.epoch, last.epoch)
			}
			again := e.body != last.body && c.lostBetween(recordsLost, last.at, e.at) // no result of the first time was left
			if e.seq == last.seq && !e.fresh && !again {
				return // a renewal or an early end
			}
		}
		if e.record.Last != nil {
			c.commits[e.session] = append(list, e)
			expired[e.session] = false
		}
	}, committed, removed)
}

// resultsAreCommitted: a session job's result has what the record has; only early ends have no commit of their own. What
// is committed after a result has expired is another story.
func (c *checker) resultsAreCommitted() {
	for k, results := range c.outcomes {
		for n, r := range results {
			if r.session == "" {
				continue
			}
			forgotten := time.Duration(math.MaxInt64)
			if times := c.forgot[resultKey(r)]; n < len(times) {
				forgotten = times[n]
			}
			var said []string
			for _, e := range c.commits[r.session] {
				if e.seq == r.seq && e.at <= forgotten {
					said = append(said, e.body)
				}
			}
			early := r.attempt == 0 && (r.result.Kind == jobs.Cancelled || r.result.Kind == jobs.Expired)
			if len(said) == 0 && !early {
				c.fail("%s has a result without a commit of sequence %d", k, r.seq)
			} else if len(said) > 0 && !slices.Contains(said, r.body) {
				c.fail("%s: the result differs from what the record says", k)
			}
		}
	}
}

// everyJobEnds: accepted means exactly one outcome.
func (c *checker) everyJobEnds() {
	for k, e := range c.first {
		_, done := c.outcomes[k]
		if _, kept := c.inRecord(e); !done && !kept {
			c.fail("%s (sequence %d) was accepted at %v and has no outcome", k, e.seq, e.at)
		}
	}
	c.h.each(func(e event) {
		if _, known := c.messageOf(e); !known {
			c.fail("%s was accepted but never stored", key(e))
		}
	}, accepted)
	for k, results := range c.outcomes {
		if _, known := c.first[k]; !known && !c.cancelledByBatch(results[0]) {
			c.fail("%s has an outcome but was never stored", k)
		}
	}
}

// onlyRuns reports whether the stream had been lost in which the job was: until its host has written its outcome no other process has it.
func (c *checker) onlyRuns(e event) bool {
	in := jobsLost
	if e.session == "" {
		in = anonymousLost
	}
	return c.lostBetween(in, c.first[key(e)].at, e.at)
}

// inRecord is the outcome that a session's record alone had when the stream was lost: the store of results was full, or the host cut off.
// It is there until the session's next outcome, whose owner stores this one first, unless its result would have expired by then, or
// the record was lost, too.
func (c *checker) inRecord(e event) (o event, is bool) {
	list := c.commits[e.session]
	i := slices.IndexFunc(list, func(o event) bool { return o.job == e.job })
	if i < 0 || !c.lostBetween(jobsLost, list[i].at, math.MaxInt64) {
		return event{}, false
	}
	o = list[i]
	lost := c.lostBetween(recordsLost, o.at, math.MaxInt64) || slices.ContainsFunc(c.gone[e.session], func(at time.Duration) bool { return at > o.at })
	return o, i == len(list)-1 || lost || list[i+1].at-o.at >= jobs.ResultTTL(o.record.Last.Mode)
}

// answersAreOutcomes: every answer of a job is its outcome, byte for byte; another payload under the same id gets a conflict.
func (c *checker) answersAreOutcomes() {
	c.h.each(func(e event) {
		results := c.outcomes[key(e)]
		o, kept := c.inRecord(e)
		same := func(r event) bool { return canonical(r.body) == canonical(e.body) }
		switch {
		case e.text == jobs.CodeConflict:
			if !c.hasTwoPayloads(e) {
				c.fail("%s was answered with a conflict but has one payload", key(e))
			}
		case len(results) == 0 && kept && same(o):
		case len(results) == 0:
			c.fail("%s was answered (%s %v) but has no outcome", key(e), e.text, e.list)
		case !slices.ContainsFunc(results, same) && !c.expired(e) && !c.lostBetween(recordsLost, 0, results[0].at): // it was in the record alone
			c.fail("%s was answered with something else than its outcome: %q, not %q", key(e), e.body, results[0].body)
		case e.asked != "" && len(e.list) > 0 && !strings.HasPrefix(e.list[len(e.list)-1], e.asked+"#"):
			c.fail("%s asked for %q and was answered with the outcome of another payload: %v", key(e), e.asked, e.list)
		}
	}, answered)
	c.h.each(func(e event) {
		_, lost := c.vanished[key(e)]
		if !lost && !c.onlyRuns(e) && c.forgotten(e, e.at) == 0 && strings.Contains(e.text, jobs.CodeJobUnknown) {
			c.fail("%s is accepted, and jobs.get does not know it at %v", key(e), e.at)
		}
	}, lookedUp)
}

// expired reports whether the answer is in a record that expired before anybody could store the result.
func (c *checker) expired(e event) bool {
	return slices.ContainsFunc(c.commits[e.session], func(o event) bool {
		return o.job == e.job && canonical(o.body) == canonical(e.body) && slices.ContainsFunc(c.gone[e.session], func(at time.Duration) bool { return at > o.at })
	})
}

// canonical is a body in the order of keys that a reply in JSON comes back with.
func canonical(body string) string {
	b, err := wire.Canonical([]byte(body), wire.Pass)
	if err != nil {
		return body
	}
	return string(b)
}

func (c *checker) hasTwoPayloads(e event) bool {
	first := c.first[key(e)].request
	other := func(m event) bool { return m.job == e.job && payload(m.request) != payload(first) }
	return slices.ContainsFunc(c.vanished[key(e)], other) || slices.ContainsFunc(c.messages[e.session], other)
}

// anObject is the id of an upload. The same arguments that were uploaded again are the same payload.
var anObject = regexp.MustCompile(`[A-Z2-7]{26}`)

func payload(request []byte) string { return anObject.ReplaceAllString(string(request), "object") }

// stateContinues: each committed turn shows all earlier ones, once, in order, or the reply reports that the state was reset.
func (c *checker) stateContinues() {
	for session, list := range c.commits {
		var want []string
		var last time.Duration // the session was in use
		said := false
		for _, e := range list {
			var r reply
			if err := decodeReply(e.body, &r); err != nil {
				c.fail("session %s: the reply of sequence %d is unreadable: %v", session, e.seq, err)
				continue
			}
			if r.Session.State == string(jobs.Reset) {
				m, _ := c.messageOf(e)
				if idle := m.at - last; idle < c.idle-clockError && !said && !c.believes(e.at) && !c.lostBetween(recordsLost, last, e.at) {
					c.fail("session %s: sequence %d says reset, though the session was idle for %v only", session, e.seq, idle)
				}
				want, said = nil, true
			}
			if e.fresh || c.lostBetween(recordsLost, last, e.at-c.idle-time.Hour) { // it would have expired by now, and reads as new
				want = nil
			}
			last = e.at
			if !r.OK {
				continue
			}
			if command(c.first[key(e)]) == "cleanup_session" {
				want = nil
				continue
			}
			got := c.listOf(r)
			if len(got) != len(want)+1 || !slices.Equal(got[:len(got)-1], want) {
				c.fail("session %s: sequence %d (%s) saw %v, committed were %v", session, e.seq, r.Session.State, got, want)
			}
			want, said = got, false
		}
	}
}

func resultKey(e event) string {
	return refOf(e.session).ResultKey(e.job)
}

func command(m event) string {
	env, _ := jobs.ParseHeaders(m.header, m.seq)
	r, _ := jobs.ParseRequest(env.Type, m.request, 0)
	return r.Command
}

// deadLetters: a dead-lettered outcome has one dead letter, another one has none.
func (c *checker) deadLetters() {
	deadLetters := map[string]int{}
	c.h.each(func(e event) { deadLetters[e.text]++ }, deadLetter)
	want, lostToo := map[string]int{}, map[string]bool{}
	for session, list := range c.commits {
		for _, e := range list { // more than one of a sequence where the record has expired
			id := fmt.Sprintf("%s.%d", session, e.seq)
			expired := want[id] == 1 && !e.record.Last.DeadLettered // before the dead letter was written: everything was stopped for hours
			if want[id] += 0; e.record.Last.DeadLettered {
				want[id] = 1
			}
			lostToo[id] = expired || c.h.struck(emptied) && c.lostBetween(recordsLost, e.at, e.at+time.Minute) // with all that refers to the dead letter
		}
	}
	again := c.h.struck(deadLettersLost) // what was lost may be written again
	for id, n := range want {
		switch got := deadLetters[id]; {
		case got > n && !(again && n > 0), got < n && !lostToo[id]:
			c.fail("%s: %d dead letters, want %d", id, got, n)
		}
		delete(deadLetters, id)
	}
	for id, n := range deadLetters {
		if !strings.HasPrefix(id, ".") {
			c.fail("a dead letter %s without a commit", id)
		} else if n > 1 && !again {
			c.fail("anonymous job %s: %d dead letters", id, n)
		}
	}
}
