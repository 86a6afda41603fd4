package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/batch"
	"github.com/dspex/dspex/internal/jobs"
)

// batchHistory is what the history shows of one batch.
type batchHistory struct {
	name, tenant, key string
	records           []event            // in the order stored
	lines             map[int]batch.Line // index -> job
	outcomes          map[int][]batchEnd // index -> the content of its parts
	feeds             map[int][]event    // index -> its messages
	told              map[int]event      // index -> what a client read
	cancelled         bool               // a client has requested it
}

type batchEnd struct {
	batch.Outcome
	at time.Duration
}

// seeBatch reads a key of the bucket of batches: b.<tenant>.<batch>, i.<tenant>.<key>.<first>, o.<tenant>.<key>.<first>.<part>.
func (p *tap) seeBatch(m *nats.Msg, key string, e *event) {
	token := strings.Split(key, ".")
	e.text = key
	var err error
	switch {
	case m.Header.Get("Nats-Marker-Reason") != "" || m.Header.Get("KV-Operation") != "" || len(m.Data) == 0:
		e.kind = removed
		return
	case token[0] == "b":
		e.kind, e.label = batched, token[1]+"/"+token[2]
		if e.batch, err = batch.ParseRecord(m.Data); err == nil {
			e.text = fmt.Sprintf("%s %s, opened %d, settled %d", e.batch.Key, e.batch.Phase, e.batch.Opened, e.batch.Stored)
		}
	case token[0] == "i":
		e.kind, e.label = lined, token[2]
		e.chunk, err = batch.ParseChunk(m.Data)
	default:
		e.kind, e.label = parted, token[2]
		e.part, err = batch.ParsePart(m.Data)
	}
	if err != nil {
		e.kind, e.text = final, "unreadable "+key+": "+err.Error()
	}
}

// batchJob takes the id of a batch's job apart.
func batchJob(id string) (key string, index int, is bool) {
	key, rest, found := strings.Cut(strings.TrimPrefix(id, "b"), "-")
	index, err := strconv.Atoi(rest)
	return key, index, found && err == nil && strings.HasPrefix(id, "b") && len(key) == len(batch.NewKey())
}

// batchHistories reads the history of all batches, by their keys.
func (c *checker) batchHistories() map[string]*batchHistory {
	histories, cancelled := map[string]*batchHistory{}, map[string]bool{}
	of := func(key string) *batchHistory {
		if histories[key] == nil {
			histories[key] = &batchHistory{key: key, lines: map[int]batch.Line{}, outcomes: map[int][]batchEnd{}, feeds: map[int][]event{}, told: map[int]event{}}
		}
		return histories[key]
	}
	c.h.each(func(e event) {
		switch e.kind {
		case batched:
			l := of(e.batch.Key)
			l.name, l.tenant = e.label, e.batch.Tenant
			l.records = append(l.records, e)
		case lined:
			for i, line := range e.chunk.Lines {
				of(e.label).lines[e.chunk.First+i] = line
			}
		case parted:
			for _, o := range e.part.Outcomes {
				l := of(e.label)
				l.outcomes[o.Index] = append(l.outcomes[o.Index], batchEnd{o, e.at})
			}
		case stored:
			if key, index, is := batchJob(e.job); is {
				l := of(key)
				l.feeds[index] = append(l.feeds[index], e)
				c.mayBeFed(l, index, e)
			}
		case pageRead:
			if key, index, is := batchJob(e.job); is {
				of(key).told[index] = e
			}
		case cancels:
			cancelled[e.label] = e.label != ""
		}
	}, batched, lined, parted, stored, pageRead, cancels)
	for _, l := range histories {
		l.cancelled = cancelled[l.name]
	}
	return histories
}

// mayBeFed: no job is published before the record shows that it may have been.
func (c *checker) mayBeFed(l *batchHistory, index int, e event) {
	if len(l.records) == 0 {
		c.fail("job %d of a batch without a record is published at %v", index, e.at)
		return
	}
	if r := l.records[len(l.records)-1].batch; index >= r.Opened {
		c.fail("batch %s: job %d is published at %v, and the record says that none from %d on has been", l.name, index, e.at, r.Opened)
	}
	if len(l.lines[index].Bad) > 0 {
		c.fail("batch %s: job %d is published, which cannot be run", l.name, index)
	}
}

// batchesEnd: a batch that was taken ends, with one outcome for each job: the one that the job has.
func (c *checker) batchesEnd() {
	if c.h.struck(batchesLost) {
		return // batches may be unknown, whole or in part; what was published is judged as all jobs are
	}
	histories := c.batchHistories()
	c.h.each(func(e event) {
		if !slices.ContainsFunc(slices.Collect(valuesOf(histories)), func(l *batchHistory) bool { return l.name == e.label }) {
			c.fail("batch %s was taken and has no record", e.label)
		}
	}, taken)
	for _, l := range histories {
		c.batchEnds(l)
		c.batchInOrder(l)
	}
}

func valuesOf[K comparable, V any](m map[K]V) func(func(V) bool) {
	return func(yield func(V) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}

// end is the record with which a batch has ended; nil: it has not.
func (l *batchHistory) end() (r *batch.Record, submitted bool) {
	for _, e := range l.records {
		if e.batch.Phase == batch.Ended && r == nil {
			r = e.batch
		}
		submitted = submitted || e.batch.Phase == batch.Running
	}
	return r, submitted
}

func (c *checker) batchEnds(l *batchHistory) {
	end, submitted := l.end()
	if !submitted {
		if len(l.feeds) > 0 {
			c.fail("batch %s was not submitted, and %d of its jobs run", l.name, len(l.feeds))
		}
		return
	}
	// Who erases a batch that has ended has seen its end.
	if last := l.records[len(l.records)-1].batch; end == nil || !last.Announced && last.Phase != batch.Removing {
		c.fail("batch %s has not ended, or it was told to nobody: %s", l.name, l.records[len(l.records)-1].text)
		return
	}
	var tally batch.Tally
	for index := range end.Jobs {
		kind := c.endOf(l, end, index)
		switch kind {
		case jobs.Succeeded:
			tally.Succeeded++
		case jobs.Failed:
			tally.Failed++
		case jobs.Cancelled:
			tally.Cancelled++
		case jobs.Expired:
			tally.Expired++
		}
		if e, read := l.told[index]; read && e.text != string(kind) {
			c.fail("batch %s: a client read that job %d is %s, and it is %s", l.name, index, e.text, kind)
		}
	}
	got := end.Tally
	kinds := [4]int{got.Succeeded, got.Failed, got.Cancelled, got.Expired}
	if kinds != [4]int{tally.Succeeded, tally.Failed, tally.Cancelled, tally.Expired} {
		c.fail("batch %s: the record counts %+v, the outcomes are %+v", l.name, got, tally)
	}
}

// endOf is how a job of a batch ended, for its batch.
func (c *checker) endOf(l *batchHistory, end *batch.Record, index int) jobs.Kind {
	stored, fed := l.outcomes[index], l.feeds[index]
	if index >= end.Opened {
		if len(stored)+len(fed) > 0 {
			c.fail("batch %s: job %d was not opened, and has %d outcomes and %d messages", l.name, index, len(stored), len(fed))
		}
		return jobs.Cancelled
	}
	if len(stored) != 1 {
		c.fail("batch %s: job %d has %d outcomes in its parts", l.name, index, len(stored))
		return ""
	}
	o := stored[0]
	of := ref{jobs.SessionRef{Tenant: l.tenant, ID: l.lines[index].Session}}.name()
	results := c.outcomes[of+"/"+batch.JobID(l.key, index)]
	if e, kept := c.inRecord(event{session: of, job: batch.JobID(l.key, index)}); kept {
		results = append(slices.Clone(results), e)
	}
	switch {
	case slices.ContainsFunc(results, func(r event) bool { return r.body == string(o.Reply) && r.text == string(o.Kind) }):
	case string(o.Reply) == string(l.lines[index].Bad):
	case string(o.Reply) != string(batch.CancelledReply()):
		c.fail("batch %s: job %d is %s in its batch, with a reply that is none of its %d results", l.name, index, o.Kind, len(results))
	case !l.cancelled:
		c.fail("batch %s: job %d is cancelled, and nobody has asked for it", l.name, index)
	default:
		c.neverRuns(l, index, o, fed, results)
	}
	if e, read := l.told[index]; read && canonical(e.body) != canonical(string(o.Reply)) {
		c.fail("batch %s: a client read something else of job %d than its outcome", l.name, index)
	}
	return o.Kind
}

// neverRuns: what a batch has cancelled by itself does not run, unless it had an outcome that was lost since.
func (c *checker) neverRuns(l *batchHistory, index int, o batchEnd, fed, results []event) {
	for _, e := range fed {
		if slices.ContainsFunc(results, func(r event) bool { return r.at >= e.at && c.forgotten(r, o.at) > 0 }) {
			continue
		}
		if !c.lostBetween(jobsLost, e.at, o.at) && !c.lostBetween(anonymousLost, e.at, o.at) {
			c.fail("batch %s: job %d is cancelled by its batch at %v, and was published at %v", l.name, index, o.at, e.at)
		}
	}
}

// cancelledByBatch reports whether it is the outcome of a job without session that a batch has cancelled, lest a host runs it.
func (c *checker) cancelledByBatch(e event) bool {
	_, _, is := batchJob(e.job)
	return is && e.session == "" && e.attempt == 0 && e.result.Kind == jobs.Cancelled && c.first[key(e)].kind == ""
}

// batchInOrder: jobs of one session are first published in the order of the batch.
func (c *checker) batchInOrder(l *batchHistory) {
	last := map[string]event{}
	for _, index := range sortedKeys(l.lines) {
		session := l.lines[index].Session
		fed := l.feeds[index]
		if session == "" || len(fed) == 0 {
			continue
		}
		if before, is := last[session]; is && fed[0].seq < before.seq && !c.h.struck(jobsLost) {
			c.fail("batch %s: job %d of session %s is stored before job %s", l.name, index, session, before.job)
		}
		last[session] = fed[0]
	}
}

func sortedKeys[V any](m map[int]V) (keys []int) {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
