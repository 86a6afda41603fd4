package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dspex/dspex/internal/dispatch/stores"

	"github.com/dspex/dspex/internal/affinity"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// errListening says that there is nothing to plan with yet.
var errListening = errors.New("hosts that own partitions have not sent a heartbeat yet")

// assignAll brings every partition to the host that should have it. What no live host holds is written by compare-and-set.
// What a live host holds it is asked to release first; the release wakes the leader, who then assigns it. What a host holds that
// has not been judged stays there: it may run jobs.
func (d *Dispatcher) assignAll(ctx context.Context) error {
	if len(d.hosts.Live()) == 0 {
		return nil
	}
	drains, err := d.drains(ctx)
	if err != nil {
		return err
	}
	now, err := d.readLayouts(ctx)
	if err != nil {
		return err
	}
	owners, epochs, stale, err := d.entries(ctx, now.Serving, d.held)
	if err != nil {
		return err
	}
	stale = append(stale, d.recallOwners(owners, epochs)...)
	live, unjudged := d.hosts.Survey(owners)
	if len(unjudged) > 0 && !d.hosts.Listened() {
		return errListening
	}
	known, plan, busy := map[string]jobs.Heartbeat{}, []affinity.Host{}, map[int]int{}
	for _, b := range live {
		known[b.Host] = b
		plan = append(plan, affinity.Host{Name: b.Host, Capacity: b.Capacity, Draining: b.Stopping || drains[b.Host]})
		for n, sessions := range b.Busy {
			busy[n] += sessions
		}
	}
	for _, host := range unjudged {
		plan = append(plan, affinity.Host{Name: host, Unheard: true})
	}
	moves := affinity.Plan(now.Serving.Partitions, plan, owners, busy)
	for _, n := range stale { // the one who has it keeps it
		if _, alive := known[owners[n]]; alive && !slices.ContainsFunc(moves, func(m affinity.Move) bool { return m.Partition == n }) {
			moves = append(moves, affinity.Move{Partition: n, To: owners[n]})
		}
	}
	asks := map[string]map[int]uint64{}
	for _, m := range moves {
		if from, alive := known[m.From]; alive && from.Releases && !slices.Contains(stale, m.Partition) {
			if asks[m.From] == nil {
				asks[m.From] = map[int]uint64{}
			}
			asks[m.From][m.Partition] = epochs[m.Partition]
			continue
		}
		o := stream.Owner{Host: m.To, Incarnation: known[m.To].Incarnation, Layout: now.Serving.Token}.Short()
		if _, err := d.broker.Claims.Write(jobs.AssignmentKey(m.Partition), o, epochs[m.Partition]); err != nil && !errors.Is(err, stream.ErrNotMine) {
			return fmt.Errorf("partition %d: %w", m.Partition, err)
		}
		d.log.Info("assigned", "partition", m.Partition, "from", m.From, "to", m.To)
	}
	d.held = owners
	if err := d.dropBeyond(ctx, now.Serving); err != nil {
		return err
	}
	for host, partitions := range asks {
		if err := d.askRelease(host, jobs.Release{Partitions: partitions, Patient: !known[host].Stopping && !drains[host]}); err != nil {
			return err
		}
	}
	return nil
}

// recallOwners adds to owners what the leader remembers of entries that were never written in the bucket's present life.
func (d *Dispatcher) recallOwners(owners map[int]string, epochs map[int]uint64) (lost []int) {
	for n, host := range d.held {
		if _, asked := epochs[n]; asked && epochs[n] == 0 && host != "" {
			owners[n] = host
			lost = append(lost, n)
		}
	}
	return lost
}

// askRelease is heard at most once; the next plan asks again for what is still held.
func (d *Dispatcher) askRelease(host string, r jobs.Release) error {
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	d.log.Info("release_asked", "host", host, "partitions", len(r.Partitions))
	return d.broker.Send(jobs.SubjectControl+host+".release", nil, body)
}

// owners reads all assignments.
func (d *Dispatcher) owners(ctx context.Context) (map[int]string, map[int]uint64, error) {
	owners, epochs, _, err := d.entries(ctx, d.layouts().Serving, nil)
	return owners, epochs, err
}

// entries reads all assignments of a layout. Stale ones name a host for a partition of another layout: no job is left there, and
// nobody has to release it.
func (d *Dispatcher) entries(ctx context.Context, l stream.Layout, held map[int]string) (owners map[int]string, epochs map[int]uint64, stale []int, err error) {
	owners, epochs = map[int]string{}, map[int]uint64{}
	for n := range l.Partitions {
		o, epoch, err := d.broker.Claims.Read(ctx, jobs.AssignmentKey(n))
		foreign := errors.Is(err, stream.ErrForeign)
		if foreign {
			o, err = stream.Owner{Host: held[n]}, nil
		}
		if err != nil {
			return nil, nil, nil, err
		}
		owners[n], epochs[n] = o.Host, epoch
		if o.Host != "" && (foreign || o.Token() != l.Token) {
			stale = append(stale, n)
		}
	}
	return owners, epochs, stale, nil
}

// mostDrains bounds the hosts that may be draining at once.
const mostDrains = 10_000

// drains are the hosts that the operator wants empty.
func (d *Dispatcher) drains(ctx context.Context) (map[string]bool, error) {
	drains := map[string]bool{}
	_, err := d.broker.Control.Page(ctx, jobs.DrainKey("*"), stream.Page{Messages: mostDrains, Bytes: 8 << 20}, func(key string, e stream.Entry) error {
		drains[strings.TrimPrefix(key, jobs.DrainKey(""))] = jobs.IsDrain(e.Value) // the bucket keeps some history: the last word counts
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("drains: %w", err)
	}
	return drains, nil
}

// followAssignments wakes the leader when a partition is released, and when the operator drains or resumes a host.
func (d *Dispatcher) followAssignments(ctx context.Context) {
	stream.Follow(ctx, d.broker.JS, stream.Assign, ">", d.log, func(key string, owner []byte) {
		if d.stores.Foreign(stream.Assign, key, owner, stores.OursInAssign(key, owner)) || owner == nil {
			d.wake()
		}
	})
}

// wake makes the leader plan at once.
func (d *Dispatcher) wake() {
	select {
	case d.woken <- struct{}{}:
	default:
	}
}
