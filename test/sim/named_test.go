package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// namedWithin is how long health may take to name what was lost, or is somebody else's.
const namedWithin = 30 * time.Second

// awaitName reads the health until it names something.
func (w *world) awaitName(what string) {
	begun := time.Now()
	w.after(0, func() {
		for time.Since(begun) < namedWithin {
			m, err := w.tap.request(jobs.RPCHealth, nil)
			if err == nil && bytes.Contains(m.Data, []byte(what)) {
				w.history.add(event{who: "operator", kind: noted, text: what})
				return
			}
			sleep(time.Second)
		}
	})
}

// lossesAreNamed: health names a store that was lost, and a consumer that is not dspex's, within half a minute. Where another fault
// strikes meanwhile nobody may have been there to report it.
func (c *checker) lossesAreNamed() {
	var faults []event
	c.h.each(func(e event) {
		if e.who != "director" {
			faults = append(faults, e)
		}
	}, fault)
	for _, e := range faults {
		what := toName(e)
		if what == "" {
			continue
		}
		alone, found := true, false
		for _, o := range faults {
			alone = alone && (o.at == e.at && o.text == e.text || o.at < e.at-namedWithin || o.at > e.at+namedWithin)
		}
		c.h.each(func(o event) { found = found || o.text == what && o.at >= e.at && o.at <= e.at+namedWithin+time.Second }, noted)
		if alone && !found {
			c.fail("health does not name %s within %v of its loss at %v", what, namedWithin, e.at)
		}
	}
}

// toName is what health has to name after a fault; "": nothing.
func toName(e event) string {
	for k, store := range stores {
		if strings.HasPrefix(e.text, string(k)+" for") {
			return store
		}
	}
	if strings.HasPrefix(e.text, string(intruder)+" for") {
		return spy
	}
	return ""
}

// spy is the consumer of somebody else.
const spy = "spy"

// intrude has somebody take a partition: our consumer goes and his is there. After a while the operator has it removed; until then it
// must stay.
func (w *world) intrude(f plannedFault) {
	w.requests <- func() {
		if w.spied {
			return // one at a time: they have the same name
		}
		ctx := context.Background()
		js := w.tap.js
		var taken string
		if s, err := js.Stream(ctx, stream.Jobs); err == nil {
			for name := range s.ConsumerNames(ctx).Name() {
				taken = max(taken, name)
			}
		}
		c, err := js.Consumer(ctx, stream.Jobs, taken)
		if err != nil {
			return // the broker is away, or no partition is taken
		}
		cfg := c.CachedInfo().Config
		if js.DeleteConsumer(ctx, stream.Jobs, taken) != nil {
			return
		}
		theirs := jetstream.ConsumerConfig{Durable: spy, FilterSubject: cfg.FilterSubject, FilterSubjects: cfg.FilterSubjects, AckPolicy: jetstream.AckExplicitPolicy}
		if _, err := js.CreateConsumer(ctx, stream.Jobs, theirs); err != nil {
			return // its host was faster
		}
		w.spied = true
		w.awaitName(spy)
		w.after(f.lasts+namedWithin, w.removeSpy)
	}
}

func (w *world) removeSpy() {
	for range 60 { // the dispatchers, or the broker, may be away
		w.mu.Lock()
		closed := time.Until(w.closedUntil)
		w.mu.Unlock()
		sleep(max(closed, 0))
		m, err := w.tap.request(jobs.RPCConsumersRemove, fmt.Appendf(nil, `{"stream": %q, "consumer": %q}`, stream.Jobs, spy))
		var answer struct {
			OK    bool
			Error struct{ Code string }
		}
		if err == nil && json.Unmarshal(m.Data, &answer) == nil {
			switch {
			case answer.OK:
				return
			case answer.Error.Code == jobs.CodeConsumerUnknown:
				if !w.history.struck(jobsLost) {
					w.history.add(event{kind: final, who: "broker", text: "somebody removed the consumer " + spy + " before the operator's word"})
				}
				return
			}
		}
		sleep(500 * time.Millisecond)
	}
}

// empty ends the broker as SIGKILL does, and leaves nothing in its store.
func (w *world) empty(f plannedFault) {
	w.requests <- func() {
		s, cables := w.broker.halt()
		if s == nil {
			return
		}
		w.tap.forget(w.tap.keys(context.Background(), stores[resultsLost]))
		for _, k := range []faultKind{recordsLost, jobsLost, anonymousLost} {
			w.tap.h.add(event{who: "broker", kind: lost, text: stores[k]})
		}
		old := w.broker.storeDir()
		w.broker.store++
		shut(s, cables)
		if err := os.RemoveAll(old); err != nil {
			w.broken = err
			return
		}
		w.after(f.lasts, func() {
			w.requests <- func() {
				if err := w.broker.start(); err != nil {
					w.broken = err
					return
				}
				for _, store := range stores {
					w.awaitName(store)
				}
			}
		})
	}
}
