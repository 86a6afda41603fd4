package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// stores are what an operator deletes. Of assignments, control, dead letters and events nothing is excused, but that a dead letter
// may come twice: what they hold is no promise, or is written again. Outcomes are lost, as when their time is over. A session
// goes on if a host has it in memory, or reports that it begins again; an attempt without a record is started again. Jobs that had
// no outcome may be gone. Batches may be unknown, and what was not published of them never runs.
var stores = map[faultKind]string{assignLost: "KV_" + stream.Assign, controlLost: "KV_" + stream.Control, deadLettersLost: stream.Dead, eventsLost: stream.Events,
	resultsLost: "KV_" + stream.Results, recordsLost: "KV_" + stream.Sessions, jobsLost: stream.Jobs, anonymousLost: stream.Anonymous, batchesLost: stream.BatchesStream}

// lose deletes a store. The director does it; if the broker is away nothing happens.
func (w *world) lose(k faultKind) {
	w.requests <- func() {
		ctx := context.Background()
		keys := w.tap.keys(ctx, stores[k])
		if w.tap.js.DeleteStream(ctx, stores[k]) != nil {
			return
		}
		w.awaitName(stores[k])
		switch k {
		case resultsLost:
			w.tap.forget(keys)
		case recordsLost, jobsLost, anonymousLost:
			w.tap.h.add(event{who: "broker", kind: lost, text: stores[k]})
		}
	}
}

// keys are the subjects of a store.
func (p *tap) keys(ctx context.Context, name string) map[string]uint64 {
	s, err := p.js.Stream(ctx, name)
	if err != nil {
		return nil
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(">"))
	if err != nil {
		return nil
	}
	return info.State.Subjects
}

// forget notes that outcomes are gone without a marker.
func (p *tap) forget(keys map[string]uint64) {
	for subject := range keys {
		_, key, _ := strings.Cut(strings.TrimPrefix(subject, "$KV."), ".")
		p.h.add(event{who: "broker", kind: removed, text: key})
	}
}

// repartition has the operator change the number of partitions.
func (w *world) repartition(n int) {
	w.mu.Lock()
	w.number = n
	w.mu.Unlock()
	w.after(0, func() {
		for range 60 { // the dispatchers, or the broker, may be away
			w.mu.Lock()
			closed := time.Until(w.closedUntil)
			w.mu.Unlock()
			sleep(max(closed, 0)) // or all dispatchers for hours
			m, err := w.tap.request(jobs.RPCPartitionsSet, fmt.Appendf(nil, `{"partitions": %d}`, w.partitions()))
			if err == nil && m.Header.Get(jobs.HeaderError) == "" {
				return
			}
			sleep(500 * time.Millisecond)
		}
	})
}

// partitions is their number as the operator wants it.
func (w *world) partitions() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.number
}

// tapNew is the request that makes a stream, with the tap on it: what is made again is seen from its first message on.
func tapNew(name string, m publication) []byte {
	var cfg map[string]any
	if !slices.Contains(tapped, name) || len(m.header) > 0 || json.Unmarshal(m.data, &cfg) != nil {
		return nil
	}
	cfg["republish"] = map[string]any{"src": ">", "dest": tapPrefix + ">"}
	body, err := json.Marshal(cfg)
	if err != nil {
		panic(err) // it was JSON before
	}
	return fmt.Appendf(nil, "PUB %s %s %d\r\n%s\r\n", m.subject, m.reply, len(body), body)
}

// struck reports whether one of the faults has struck. When the broker comes back empty every store was lost.
func (h *history) struck(kinds ...faultKind) (yes bool) {
	if slices.ContainsFunc(kinds, func(k faultKind) bool { return stores[k] != "" }) {
		kinds = append(kinds, emptied)
	}
	h.each(func(e event) {
		yes = yes || slices.ContainsFunc(kinds, func(k faultKind) bool { return strings.HasPrefix(e.text, string(k)+" for") })
	}, fault)
	return yes
}
