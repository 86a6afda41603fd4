package assign

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/affinity"
	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/dispatch/fleet"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

var (
	// errListening reports that there is nothing to plan with yet.
	errListening = errors.New("hosts that own partitions have not sent a heartbeat yet")
	// errOvertaken reports that what the plan was made of has changed meanwhile.
	errOvertaken = errors.New("another plan was faster, or the number of partitions was changed")
)

// reconcile is the time between looks at all assignments while no host comes or goes.
const reconcile = 5 * time.Second

// Planner brings partitions to hosts. It works while its dispatcher leads.
type Planner struct {
	name   string
	view   *View
	hosts  *fleet.Fleet
	broker *stream.Access
	log    *slog.Logger
	held   map[int]string // partition -> host, as the last plan left it
	of     stream.Layout  // that held is of
	swept  stream.Layout  // nothing of another one is left

	progress progress
}

// NewPlanner plans for the hosts of a fleet, in the dispatcher of that name.
func NewPlanner(name string, view *View, hosts *fleet.Fleet, broker *stream.Access, log *slog.Logger) *Planner {
	return &Planner{name: name, view: view, hosts: hosts, broker: broker, log: log}
}

// board is what one plan is made of.
type board struct {
	layouts  stream.Layouts
	of       stream.Layout
	entries  []entry
	known    map[string]control.Heartbeat
	unjudged []string
	drains   map[string]bool
	stale    []int // partitions whose entry is to be written again: it is foreign, or was lost
}

// look reads the entries first and then how many there are to be: so the entries are of that layout or of an earlier one.
func (p *Planner) look(ctx context.Context) (*board, error) {
	before, err := p.view.Read(ctx)
	if err != nil {
		return nil, err
	}
	b := &board{layouts: before, of: before.Serving, known: map[string]control.Heartbeat{}}
	if b.drains, err = drains(ctx, p.broker); err != nil {
		return nil, err
	}
	n := b.of.Partitions
	if p.swept != b.of {
		n = max(n, everyKey)
	}
	if b.entries, err = p.view.entries(ctx, n); err != nil {
		return nil, err
	}
	if after, err := p.view.Read(ctx); err != nil || after.Serving != b.of {
		return nil, errors.Join(err, errOvertaken)
	}
	owners := map[int]string{}
	for n := range b.entries {
		e := &b.entries[n]
		if n < b.of.Partitions {
			p.recall(b, n, e)
		}
		owners[n] = e.Host
	}
	var live []control.Heartbeat
	live, b.unjudged = p.hosts.Survey(owners)
	for _, beat := range live {
		b.known[beat.Host] = beat
	}
	return b, nil
}

// recall adds what the leader has kept of an entry that is foreign, or was never written since the bucket was created.
func (p *Planner) recall(b *board, n int, e *entry) {
	if p.of != b.of || p.held[n] == "" || !e.foreign && e.epoch != 0 {
		if e.foreign {
			b.stale = append(b.stale, n)
		}
		return
	}
	e.Owner = stream.OwnerIn(b.of, p.held[n], "")
	b.stale = append(b.stale, n)
}

// bring writes and requests what the plan moves.
func (p *Planner) bring(b *board) error {
	owners, busy := map[int]string{}, map[int]int{}
	for n, e := range b.entries[:b.of.Partitions] {
		owners[n] = e.Host
	}
	hosts := p.candidates(b, busy)
	moves := affinity.Plan(b.of.Partitions, hosts, owners, busy)
	for _, n := range b.stale { // the one who has it keeps it
		if _, alive := b.known[owners[n]]; alive && !slices.ContainsFunc(moves, func(m affinity.Move) bool { return m.Partition == n }) {
			moves = append(moves, affinity.Move{Partition: n, To: owners[n]})
		}
	}
	requests, given := map[string]map[int]uint64{}, map[affinity.Move][]int{}
	defer func() { p.logGiven(given) }()
	for _, m := range moves {
		if from, alive := b.known[m.From]; alive && from.Releases && !slices.Contains(b.stale, m.Partition) {
			addRequest(requests, m.From, m.Partition, b.entries[m.Partition].epoch)
			continue
		}
		o := stream.OwnerIn(b.of, m.To, b.known[m.To].Incarnation)
		if _, err := p.broker.Claims.Write(jobs.AssignmentKey(m.Partition), o, b.entries[m.Partition].epoch); err != nil && !errors.Is(err, stream.ErrNotMine) {
			return fmt.Errorf("partition %d: %w", m.Partition, err)
		}
		way := affinity.Move{From: m.From, To: m.To}
		given[way] = append(given[way], m.Partition)
	}
	p.held, p.of = owners, b.of
	return p.sendRequests(b, requests, true)
}

// logGiven writes a line for each host that got partitions of another.
func (p *Planner) logGiven(given map[affinity.Move][]int) {
	for way, partitions := range given {
		p.log.Info("assigned", "partitions", spell(partitions), "from", way.From, "to", way.To)
	}
}

// spell writes numbers as ranges: 0-7 12 14-15.
func spell(numbers []int) string {
	slices.Sort(numbers)
	var b strings.Builder
	for i := 0; i < len(numbers); {
		last := i
		for last+1 < len(numbers) && numbers[last+1] == numbers[last]+1 {
			last++
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(strconv.Itoa(numbers[i]))
		if last > i {
			b.WriteString("-" + strconv.Itoa(numbers[last]))
		}
		i = last + 1
	}
	return b.String()
}

// candidates are the hosts that the plan may give partitions to. Those of earlier releases do not support grouped shards.
func (p *Planner) candidates(b *board, busy map[int]int) (hosts []affinity.Host) {
	for _, beat := range b.known {
		if b.of.Grouped() && !beat.Shards {
			p.log.Warn("host_of_an_earlier_release", "host", beat.Host, "hint", "it gets no partition since their number was changed: start it from this release")
			continue
		}
		hosts = append(hosts, affinity.Host{Name: beat.Host, Capacity: beat.Capacity, Draining: beat.Stopping || b.drains[beat.Host]})
		for n, sessions := range beat.Busy {
			busy[n] += sessions
		}
	}
	for _, host := range b.unjudged {
		hosts = append(hosts, affinity.Host{Name: host, Unknown: true})
	}
	return hosts
}

func addRequest(requests map[string]map[int]uint64, host string, partition int, epoch uint64) {
	if requests[host] == nil {
		requests[host] = map[int]uint64{}
	}
	requests[host][partition] = epoch
}

// sendRequests requests each at most once; the next plan repeats what is still held. A patient leader leaves alone what may run for long.
func (p *Planner) sendRequests(b *board, requests map[string]map[int]uint64, patient bool) error {
	for host, partitions := range requests {
		body, err := json.Marshal(control.Release{Partitions: partitions, Patient: patient && !b.known[host].Stopping && !b.drains[host]})
		if err != nil {
			return err
		}
		p.log.Info("release_requested", "host", host, "partitions", len(partitions))
		if err := p.broker.Send(jobs.SubjectControl+host+".release", nil, body); err != nil {
			return err
		}
	}
	return nil
}
