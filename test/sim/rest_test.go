package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/batch"
	"github.com/dspex/dspex/internal/stream"
)

// Bounds on what a healed system may need, in fake time.
const (
	patience      = 5 * time.Minute  // until the last client has its outcome: retries, deadlines and 20 s of anonymous AckWait included
	batchPatience = 30 * time.Minute // until the last batch has ended: what a lost store held of it is published again after 5 and 10 minutes
	draining      = time.Minute      // until the queues are empty and all partitions stay where they are
	calm          = 20 * time.Second
	missed        = time.Minute // more, where a delivery was lost that no other one followed: its owner compares twice
)

// missing is how much longer rest may take where deliveries are lost.
func (p plan) missing() time.Duration {
	if p.clustered { // what was under way to a server that falls silent is lost
		return missed
	}
	if slices.ContainsFunc(p.triggers, func(t *trigger) bool { return t.fault.kind == deliveryLost }) {
		return missed
	}
	return 0
}

// awaitClients waits for all clients and records whoever still waits after the patience.
func (w *world) awaitClients(clients []*client, most time.Duration) {
	limit := time.NewTimer(most + w.plan.missing())
	defer limit.Stop()
	for _, c := range clients {
		select {
		case <-c.done:
			continue
		case <-limit.C:
		}
		for _, c := range clients {
			c.mu.Lock()
			for _, what := range c.waiting {
				w.history.add(event{kind: stuck, who: c.p.name, text: what})
			}
			c.mu.Unlock()
			c.p.stop()
		}
		break
	}
	for _, c := range clients {
		c.p.stop()
		<-c.done
	}
}

// awaitRest waits until nothing is left to do and records what is left all the same.
func (w *world) awaitRest() {
	var left string
	for end := time.Now().Add(draining + w.plan.missing()); time.Now().Before(end); sleep(500 * time.Millisecond) {
		if left = w.left(); left != "" {
			continue
		}
		if w.history.calm() > calm {
			return
		}
		left = "partitions go on changing hands"
	}
	w.history.add(event{kind: final, who: "broker", text: left})
}

// left names what is not at rest; "" is rest.
func (w *world) left() string {
	ctx := context.Background()
	var out []string
	for name, filter := range map[string]string{stream.Jobs: "dspex.*.*.>", stream.Anonymous: ">"} {
		s, err := w.tap.js.Stream(ctx, name)
		if err != nil {
			return err.Error()
		}
		info, err := s.Info(ctx, jetstream.WithSubjectFilter(filter))
		if err != nil {
			return err.Error()
		}
		for subject, n := range info.State.Subjects {
			out = append(out, fmt.Sprintf("%d jobs on %s", n, subject))
		}
		if name != stream.Jobs {
			continue
		}
		var names []string
		list := s.ConsumerNames(ctx)
		for n := range list.Name() {
			names = append(names, n)
		}
		// A stream that no process had a record of is made with the number that is the default.
		if n, err := stream.PartitionsOf(ctx, w.tap.js); len(names) != w.partitions() && (err != nil || len(names) != n || !w.history.struck(jobsLost)) {
			out = append(out, "consumers "+strings.Join(names, " "))
		}
	}
	return strings.Join(append(out, w.leftOfBatches(ctx)...), "; ")
}

// leftOfBatches are jobs and outcomes of batches that are gone, and ends that are not announced.
func (w *world) leftOfBatches(ctx context.Context) (left []string) {
	if w.history.struck(batchesLost) {
		return nil // they go with their time
	}
	present := map[string]bool{}
	w.history.each(func(e event) { present[e.batch.Key] = true }, batched)
	keys := w.tap.keys(ctx, stream.BatchesStream)
	for key := range present {
		present[key] = false
	}
	silent := map[string]bool{}
	w.history.each(func(e event) {
		if _, there := keys["$KV."+stream.Batches+".b."+strings.Replace(e.label, "/", ".", 1)]; there {
			present[e.batch.Key] = e.batch.Phase != batch.Removing
			silent[e.label] = e.batch.Phase == batch.Ended && !e.batch.Announced
		}
	}, batched)
	for label, is := range silent {
		if is {
			left = append(left, "the end of the batch "+label)
		}
	}
	return append(left, w.tap.strays(keys, present)...)
}
