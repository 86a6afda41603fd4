package sim

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/affinity"
	"github.com/dspex/dspex/internal/batch"
	"github.com/dspex/dspex/internal/jobs"
)

// kind is what an event is and who saw it.
type kind string

// What clients see.
const (
	submit   kind = "submit"   // a client sends a job (again)
	accepted kind = "accepted" // it holds a PubAck
	unclear  kind = "unclear"  // no PubAck: whether it was stored is unknown
	refused  kind = "refused"  // the endpoint reports that it became no job
	answered kind = "answered" // the reply of a job, by inbox or from jobs.get
	lookedUp kind = "lookedup" // jobs.get returned something else
	uploaded kind = "uploaded" // the arguments of a job are stored, whole
	together kind = "together" // it submits a job with another one, both or none
	cancels  kind = "cancels"  // it requests the end of a job, or receives what became of that
	taken    kind = "taken"    // a batch was submitted
	pageRead kind = "pageread" // it reads how a job of a batch ended
	gaveUp   kind = "gaveup"   // a client stops waiting, by its plan
	stuck    kind = "stuck"    // a client was still waiting at the end
)

// What the workers' journal sees.
const (
	began kind = "began" // an attempt starts in a worker
	ended kind = "ended" // it came to its end; no event: it was cut off
	died  kind = "died"  // a worker
)

// What the tap sees, in stream order.
const (
	stored          kind = "stored"    // a job
	committed       kind = "committed" // a session record
	attemptRecorded kind = "attempt recorded"
	resulted        kind = "resulted"   // an outcome
	deadLetter      kind = "deadletter" //
	assigned        kind = "assigned"   // a partition's owner
	removed         kind = "removed"    // a key's lifetime is over
	lost            kind = "lost"       // a store, with all that was in it
	opened          kind = "opened"     // a circuit breaker
	pushed          kind = "pushed"     // a program for all hosts
	told            kind = "told"       // a step of the broker's clock
	batched         kind = "batched"    // a batch's record
	lined           kind = "lined"      // jobs of a batch
	parted          kind = "parted"     // outcomes of a batch
	objected        kind = "objected"   // a large result is there, whole
)

// What the director does, and what it finds at the end.
const (
	fault  kind = "fault"
	booted kind = "booted" // a process starts
	noted  kind = "noted"  // by health: what was lost, or is somebody else's
	looked kind = "looked" // at the pushed program, when all is healed
	final  kind = "final"
	// logged is a log line of the product; no checker reads it.
	logged kind = "log"
)

// event is one line of the history.
type event struct {
	at      time.Duration // since the start, fake time
	kind    kind
	who     string // client, host incarnation, broker
	session string
	job     string
	seq     uint64 // of the job's message
	rev     uint64 // of the stored message itself
	epoch   uint64
	attempt int
	text    string
	list    []string // the session's list that a worker saw or a reply shows
	body    string   // bytes to compare
	label   string   // session state as the reply names it
	asked   string   // of a reply: what the entry is that the request would append
	program string   // of an attempt that starts: the version of the pushed program in its worker

	incarnation string // of the host that was assigned
	record      *jobs.Record
	result      *jobs.Result
	header      nats.Header // of the stored job
	request     []byte
	batch       *batch.Record
	chunk       *batch.Chunk
	part        *batch.Part
	notBefore   time.Time // of an attempt record: the retry waits until then, by the broker's clock
	delay       time.Duration
	by          time.Duration // of the latest step of the broker's clock that is recorded
	fresh       bool          // a commit: the record before it had expired
}

func (e event) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%10.4fs %-10s %-8s", e.at.Seconds(), e.kind, e.who)
	if e.session != "" || e.job != "" {
		fmt.Fprintf(&b, " %s/%s", e.session, e.job)
	}
	for _, f := range []struct {
		name string
		v    uint64
	}{{"seq", e.seq}, {"rev", e.rev}, {"epoch", e.epoch}, {"attempt", uint64(e.attempt)}} {
		if f.v != 0 {
			fmt.Fprintf(&b, " %s=%d", f.name, f.v)
		}
	}
	if e.label != "" {
		fmt.Fprintf(&b, " (%s)", e.label)
	}
	if e.text != "" {
		fmt.Fprintf(&b, " %s", e.text)
	}
	if e.program != "" {
		fmt.Fprintf(&b, " program %s", e.program)
	}
	if e.list != nil {
		fmt.Fprintf(&b, " %v", e.list)
	}
	return b.String()
}

// history is what the observers saw, in the order in which they did.
type history struct {
	start      time.Time
	partitions int
	broker     wallClock // the broker's clock

	mu     sync.Mutex
	all    []event
	open   map[string]int // stored jobs without an outcome -> partition
	owners map[int]string // of partitions
	moved  time.Duration  // when one last changed hands
	said   map[string]int // log lines -> how often
}

func newHistory(partitions int) *history {
	return &history{start: time.Now(), partitions: partitions, open: map[string]int{}, owners: map[int]string{}, said: map[string]int{}}
}

func (h *history) add(e event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e.at = time.Since(h.start)
	h.all = append(h.all, e)
	switch key := e.session + "/" + e.job; {
	case e.kind == stored && e.session != "":
		h.open[key] = affinity.Partition(refOf(e.session).ID, h.partitions)
	case e.kind == stored:
		h.open[key] = -1
	case e.kind == resulted:
		delete(h.open, key)
	case e.kind == assigned:
		h.owners[int(e.seq)], h.moved = e.who, e.at
	}
}

// calm is how long no partition has changed hands.
func (h *history) calm() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Since(h.start) - h.moved
}

// log keeps a line of the product's log, a repeated one the first few times.
func (h *history) log(who, text string) {
	h.mu.Lock()
	h.said[who+text]++
	n := h.said[who+text]
	h.mu.Unlock()
	if most := 3; n <= most {
		h.add(event{kind: logged, who: who, text: text})
	}
}

// inFlight reports whether a job is without an outcome, in the partitions of one host or ("") anywhere.
func (h *history) inFlight(host string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, partition := range h.open {
		if host == "" || h.owners[partition] == host {
			return true
		}
	}
	return false
}

// each calls f for every event of the given kinds, in order.
func (h *history) each(f func(event), kinds ...kind) {
	h.mu.Lock()
	all := h.all
	h.mu.Unlock()
	for _, e := range all {
		for _, k := range kinds {
			if e.kind == k {
				f(e)
			}
		}
	}
}

func (h *history) dump() string {
	var b strings.Builder
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.all {
		b.WriteString(e.String())
		b.WriteByte('\n')
	}
	return b.String()
}
