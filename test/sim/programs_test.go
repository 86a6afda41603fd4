package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/stream"
	"github.com/dspex/dspex/internal/wire"
)

// Operators push one program, whose content is the x of the job that did, and take it back.

const (
	programSubject = "$KV." + stream.Control + "." + control.PushedPrefix
	rpcAdmin       = "dspex.rpc.admin.anonymous"
	programID      = "qa"
	takenBack      = "(taken back)"
)

// content of a record.
type content struct {
	X string `msgpack:"x"`
}

func contentOf(b frame.ProgramBody) string {
	var found content
	if b.Record == nil || wire.Decode(b.Record, &found) != nil {
		return takenBack
	}
	return found.X
}

// pushes is what a worker has its host store.
func pushes(command, x string) map[string]any {
	told := map[string]any{"id": programID, "record": nil}
	if command == "push_program" {
		told["record"] = map[string]any{"x": x}
	}
	return told
}

func (o op) pushes() bool { return o.command == "push_program" || o.command == "withdraw_program" }

// pushedUnderFire strikes between the write of a program and the end of the job that pushes it.
func pushedUnderFire(r *rand.Rand, p *plan) {
	for range 2 {
		at := pick(r, []point{pointProgram, pointAnonResult, pointAnonAck})
		p.addTrigger(r, at, r.IntN(2) == 0, pick(r, []faultKind{hostKill, brokerKill, connReset, controlLost}), "")
	}
}

func pushesPrograms(r *rand.Rand, o *op) {
	if r.IntN(3) > 0 {
		o.awaits, o.endpoint, o.work.MS = true, endpointCall, o.work.MS/4
		return
	}
	o.session, o.tenant, o.endpoint, o.awaits, o.cancel = "", "", endpointCall, r.IntN(4) > 0, 0
	o.command = "push_program"
	if r.IntN(5) == 0 {
		o.command = "withdraw_program"
	}
}

func (p *tap) seeProgram(m *nats.Msg, e *event) {
	e.kind = pushed
	b, err := frame.ParseProgram(m.Data)
	if err != nil {
		e.kind, e.text = final, "unreadable program: "+err.Error()
		return
	}
	e.text, e.seq = contentOf(b), b.Version
}

// following is more than hosts need to read what was stored, once nothing strikes any more.
const following = 15 * time.Second

// lookAtPrograms has jobs of many sessions run after everything has healed, if anything was pushed.
func (w *world) lookAtPrograms() []*client {
	pushes := false
	w.history.each(func(event) { pushes = true }, pushed)
	if !pushes {
		return nil
	}
	sleep(following)
	w.history.add(event{kind: looked, who: "director"})
	var ops []op
	for n := range 8 {
		x := fmt.Sprint("look-", n)
		ops = append(ops, op{session: fmt.Sprint("look", n), job: x, command: "append", work: work{X: x}, options: map[string]any{}, endpoint: endpointCall, awaits: true})
	}
	return []*client{w.startClient("look.1", ops)}
}

// programsFollow checks what docs state about pushed programs.
func (c *checker) programsFollow() {
	var list []event
	c.h.each(func(e event) { list = append(list, e) }, pushed)
	lost := c.h.struck(controlLost)
	for n := 1; n < len(list); n++ {
		if list[n].seq <= list[n-1].seq && !lost {
			c.fail("program %s has version %d after %d", list[n].text, list[n].seq, list[n-1].seq)
		}
	}
	c.noWorkerGoesBack(list)
	c.theNextJobFinds(list)
	c.allHostsFind(list)
}

// first is the first place of a content at or after another one, -1 if there is none.
func first(list []event, content string, from int) int {
	if n := slices.IndexFunc(list[from:], func(e event) bool { return e.text == content }); n >= 0 {
		return from + n
	}
	return -1
}

// noWorkerGoesBack: what a worker has was stored, and it is never sent what was stored before that.
func (c *checker) noWorkerGoesBack(list []event) {
	at := map[string]int{} // worker -> place of what it has, at least
	c.h.each(func(e event) {
		worker := e.who + " " + e.text
		if e.kind == died {
			delete(at, worker)
			return
		}
		if e.program == "" {
			if _, knew := at[worker]; knew {
				c.fail("worker %s forgets the program at %v", worker, e.at)
			}
			return
		}
		n := first(list, e.program, at[worker])
		if n < 0 {
			c.fail("worker %s has program %s at %v, which was not stored, or before what it knew", worker, e.program, e.at)
			return
		}
		at[worker] = n
	}, began, died)
}

// theNextJobFinds: a job that is stored after the answer to a push runs with that, or with a later one, on the host that answered.
func (c *checker) theNextJobFinds(list []event) {
	type push struct {
		who   string
		at    time.Duration
		place int
	}
	var answers []push
	runs := map[string]event{} // job -> its last attempt
	moved := map[string]bool{} // jobs that more than one host has run: who answered is not known
	since := map[string]time.Duration{}
	c.h.each(func(e event) {
		switch {
		case e.kind == began:
			if before, again := runs[e.job]; again && before.who != e.who {
				moved[e.job] = true
			}
			runs[e.job] = e
			n := -1
			for i := range list {
				if list[i].text == e.program && list[i].at <= e.at {
					n = i
				}
			}
			for _, p := range answers {
				if at, known := since[key(e)]; known && p.who == e.who && at > p.at && n < p.place {
					c.fail("%s runs on %s with program %q, though %s was pushed there before it was stored", key(e), e.who, e.program, list[p.place].text)
				}
			}
		case e.kind == answered && e.session == "" && e.text == "":
			run, known := runs[e.job]
			place := -1
			for i := range list { // the first that this run may have written, else the last that it found
				if list[i].at > e.at || place >= 0 && list[place].at >= run.at {
					break
				}
				if list[i].text == e.asked {
					place = i
				}
			}
			if known && place >= 0 && !moved[e.job] {
				answers = append(answers, push{run.who, e.at, place})
			}
		default:
			since[key(e)] = e.at
		}
	}, began, answered, stored)
}

// allHostsFind: in the end every host uses what was stored last. What was stored before the store was lost may be gone.
func (c *checker) allHostsFind(list []event) {
	var since, gone time.Duration
	c.h.each(func(e event) { since = e.at }, looked)
	c.h.each(func(e event) {
		if strings.HasPrefix(e.text, string(controlLost)+" for") {
			gone = e.at
		}
	}, fault)
	if since == 0 || list[len(list)-1].at <= gone {
		return
	}
	last := list[len(list)-1].text
	c.h.each(func(e event) {
		if e.at > since && e.program != last {
			c.fail("%s runs on %s with program %q in the end, the last one that was stored is %s", key(e), e.who, e.program, last)
		}
	}, began)
}
