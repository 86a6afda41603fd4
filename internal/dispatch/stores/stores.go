// Package stores looks after the broker objects: it makes again what is missing, tries whether they take writes, keeps what must
// not be lost with dspex_control, and names what others have put there.
package stores

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/dispatch/alerts"
	"github.com/dspex/dspex/internal/dispatch/fleet"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// The broker objects can go away under live processes: an operator deletes one, or the broker comes back with an empty store.
// Every dispatcher looks at them again and again and makes what is missing, so that the deployment heals without a restart.
// What was lost is reported: it cannot be brought back, but for what dispatchers keep of dspex_control.

// Times of the care for broker objects.
const (
	Pause         = 2 * time.Second  // between two looks
	ReportedFor   = 10 * time.Minute // health names for so long what was lost
	strangersEach = 5                // looks between two at the consumers of others
)

// Stores is a dispatcher's view of the broker objects.
type Stores struct {
	broker     *stream.Access
	hosts      *fleet.Fleet
	alerts     *alerts.Alerter
	probes     *Probes
	log        *slog.Logger
	dispatcher string
	settings   stream.Settings
	plan       Plan
	again      chan struct{} // capacity 1: look now

	mu        sync.Mutex
	highest   uint64               // sequence that any of them was seen to have given out
	missing   []string             // and could not be made
	why       error                // they could not
	renewed   map[string]time.Time // those in a recreated store -> when it began
	strangers []stream.Stranger
	control   map[string][]byte // what is kept of dspex_control
	foreign   foreign
}

// Plan is what depends on the broker objects: who has which partition.
type Plan interface {
	Partitions() int // of new jobs
	// Reread has the number of partitions read again.
	Reread(ctx context.Context) error
	// Wake has the leader look at all assignments.
	Wake()
}

// New looks after the objects of a broker, which are made with these settings.
func New(dispatcher string, settings stream.Settings, broker *stream.Access, hosts *fleet.Fleet, alerter *alerts.Alerter, p *Probes, of Plan, log *slog.Logger) *Stores {
	return &Stores{broker: broker, hosts: hosts, alerts: alerter, probes: p, log: log, dispatcher: dispatcher, settings: settings, plan: of, again: make(chan struct{}, 1), highest: assumed}
}

// assumed is the highest sequence that is known before any was seen. The objects are there by now: what is missed later was lost, with
// numbers that hosts may have seen, and nobody has reported.
const assumed = 1

// Follow looks at the broker objects until ctx ends: each storesPause, after a reconnect, and when a write found no stream.
func (s *Stores) Follow(ctx context.Context) {
	connected, stop := s.broker.Reconnects()
	defer stop()
	tick := time.NewTicker(Pause)
	defer tick.Stop()
	for n := 0; ; n++ {
		bounded, cancel := context.WithTimeout(ctx, storesTimeout)
		if err := s.lookAtStores(bounded, n%strangersEach == 0); err != nil && ctx.Err() == nil {
			s.log.Debug("stores_not_seen", "error", err)
		}
		cancel()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-connected:
		case <-s.again:
		}
	}
}

// Missed requests a look after a write that no stream took.
func (s *Stores) Missed(err error) {
	if errors.Is(err, stream.ErrNoStream) {
		select {
		case s.again <- struct{}{}:
		default:
		}
	}
}

// lookAtStores makes what is missing.
func (s *Stores) lookAtStores(ctx context.Context, strangers bool) error {
	found, err := stream.Look(ctx, s.broker.JS)
	for _, name := range s.probes.measured(found, err) {
		s.log.Warn("store_fills", "stream", name, "hint", stream.ResizeHint(name))
	}
	if err != nil {
		return err
	}
	s.note(found, s.hosts.HighestEpoch())
	if len(found.Missing) > 0 {
		settings := s.settings
		settings.Partitions, settings.Remembered = s.plan.Partitions(), s.remembered()
		s.log.Warn("stores_missing", "streams", found.Missing)
		made, err := stream.Make(ctx, s.broker.JS, settings)
		s.couldNot(found.Missing, made, err)
		for _, name := range made {
			s.reportLost(name)
		}
		if err != nil {
			return err
		}
		if found, err = stream.Look(ctx, s.broker.JS); err != nil {
			return err
		}
	}
	if err := s.plan.Reread(ctx); err != nil {
		return err
	}
	if before := s.renew(found.Renewed); !before.Equal(found.Renewed[stream.ControlStream]) {
		s.restoreControl()
		s.plan.Wake()
	}
	if strangers {
		return s.lookForStrangers(ctx)
	}
	return nil
}

func (s *Stores) note(found stream.Survey, epoch uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.highest = max(s.highest, found.Highest, epoch)
	if len(found.Missing) == 0 {
		s.missing, s.why = nil, nil
	}
}

func (s *Stores) remembered() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.highest
}

// couldNot notes what is missing still.
func (s *Stores) couldNot(missing, made []string, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.missing, s.why = nil, why
	if why != nil {
		s.missing = slices.DeleteFunc(slices.Clone(missing), func(name string) bool { return slices.Contains(made, name) })
	}
}

// renew notes which objects are in a recreated store, and returns since when dspex_control was known to be.
func (s *Stores) renew(now map[string]time.Time) (before time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before = s.renewed[stream.ControlStream]
	s.renewed = now
	return before
}

// Events about the broker objects (contract/events.md).
const (
	eventLost   = "dspex.store.lost"
	subjectLost = contract.SubjectStoreLost
)

type lost struct {
	Event      string    `json:"event"`
	At         time.Time `json:"at"`
	Dispatcher string    `json:"dispatcher"`
	Stream     string    `json:"stream"`
	Contents   string    `json:"held"` // what is lost with it
}

func (s *Stores) reportLost(name string) {
	s.forgetForeign(name)
	l := lost{Event: eventLost, At: time.Now().UTC(), Dispatcher: s.dispatcher, Stream: name, Contents: stream.Contents(name)}
	s.alerts.Send(subjectLost, l, func() {
		s.log.Error("store_lost", "event", l.Event, "stream", l.Stream, "held", l.Contents, "hint", "it was missing and is recreated empty; restore a backup if there is one (docs/operations.md)")
	})
}

// Reasons report to the health check what is missing, and what was lost lately.
func (s *Stores) Reasons(now time.Time) (reasons []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range s.missing {
		reasons = append(reasons, fmt.Sprintf("stream %s is missing and cannot be created: %v", name, s.why))
	}
	for _, name := range slices.Sorted(maps.Keys(s.renewed)) {
		if age := now.Sub(s.renewed[name]); age < ReportedFor {
			reasons = append(reasons, fmt.Sprintf("stream %s was lost and recreated %s ago: %s", name, age.Round(time.Second), stream.Contents(name)))
		}
	}
	reasons = append(reasons, s.foreign.reasons()...)
	for _, other := range s.strangers {
		reasons = append(reasons, fmt.Sprintf("consumer %s of stream %s (%s) does not belong to dspex and takes its jobs: `dspex consumers remove %s %s`",
			other.Consumer, other.Stream, strings.Join(other.Filters, ", "), other.Stream, other.Consumer))
	}
	return reasons
}

// FollowControl keeps up with what the operator wants, and what the leader needs of it.
func (s *Stores) FollowControl(ctx context.Context) {
	stream.Follow(ctx, s.broker.JS, stream.Control, ">", s.log, func(key string, value []byte) {
		if strings.HasPrefix(key, control.DrainKey("")) {
			s.plan.Wake()
		}
		if s.Foreign(stream.Control, key, value, oursInControl(key, value)) {
			value = nil
		}
		if key == control.TotalsKey {
			s.hosts.Totals.Adopt(value)
		}
		if key != control.LeaderKey && !strings.HasPrefix(key, control.BreakerKey("")) { // breakers belong to a moment
			s.remember(key, value)
		}
	})
}

// mostRemembered bounds the keys of dspex_control that are kept.
const mostRemembered = 20_000

func (s *Stores) remember(key string, value []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.control == nil {
		s.control = map[string][]byte{}
	}
	if value == nil {
		delete(s.control, key)
	} else if len(s.control) < mostRemembered {
		s.control[key] = value
	}
}

// restoreControl writes what is kept of dspex_control into a bucket that was recreated. What is there already stays.
func (s *Stores) restoreControl() {
	s.mu.Lock()
	remembered := maps.Clone(s.control)
	s.mu.Unlock()
	for key, value := range remembered {
		if _, err := s.broker.Control.PutSync(key, value, 0, 0); err != nil && !errors.Is(err, stream.ErrWrongRevision) {
			s.log.Error("control_not_restored", "key", key, "error", err)
		}
	}
}

// hostsWait bounds the wait for hosts that may have seen the lost store. Behind a broker that has come back they are there
// within half of it.
const (
	hostsWait  = time.Second
	hostsAgain = 100 * time.Millisecond
)

// HighestKnown is the highest number at the broker and the live hosts. On a broker without any objects it distinguishes a new
// deployment from one whose store was lost.
func (s *Stores) HighestKnown(ctx context.Context) (uint64, error) {
	found, err := stream.Look(ctx, s.broker.JS)
	if err != nil || len(found.Missing) == 0 {
		return 0, err
	}
	bounded, cancel := context.WithTimeout(ctx, hostsWait)
	defer cancel()
	highest := found.Highest
	for {
		err = s.broker.Collect(bounded, jobs.SubjectBeat, func(data []byte) {
			var b control.Heartbeat
			if json.Unmarshal(data, &b) == nil {
				highest = max(highest, b.HighestEpoch)
			}
		})
		if err != nil || highest > 0 {
			return highest, err
		}
		select {
		case <-bounded.Done():
			return 0, ctx.Err()
		case <-time.After(hostsAgain): // they may have to connect again
		}
	}
}

// lookForStrangers finds consumers of others on our work queues. An operator decides what becomes of them.
func (s *Stores) lookForStrangers(ctx context.Context) error {
	now, err := stream.Strangers(ctx, s.broker.JS)
	if err != nil {
		return err
	}
	for _, other := range s.meet(now) {
		s.log.Error("foreign_consumer", "stream", other.Stream, "consumer", other.Consumer, "filters", other.Filters,
			"hint", "it takes jobs, or prevents a partition from being served: remove it with `dspex consumers remove`")
	}
	return nil
}

// meet notes the strangers and returns those that are new.
func (s *Stores) meet(now []stream.Stranger) (fresh []stream.Stranger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := map[string]bool{}
	for _, other := range s.strangers {
		known[other.Stream+" "+other.Consumer] = true
	}
	for _, other := range now {
		if !known[other.Stream+" "+other.Consumer] {
			fresh = append(fresh, other)
		}
	}
	s.strangers = now
	return fresh
}

// Foreign notes what a bucket's watch shows; value nil: the key was deleted.
func (s *Stores) Foreign(bucket, key string, value []byte, ours bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := bucket + " " + key
	if value == nil || ours {
		delete(s.foreign, at)
		return false
	}
	if s.foreign == nil {
		s.foreign = foreign{}
	}
	if !s.foreign[at] {
		s.log.Error("foreign_value", "bucket", bucket, "key", jobs.Clip(key), "hint", "no component of this release can have written this value: it is ignored")
	}
	if len(s.foreign) < mostForeign {
		s.foreign[at] = true
	}
	return true
}

// forgetForeign drops what lay in a bucket that is gone.
func (s *Stores) forgetForeign(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.foreign, func(at string, _ bool) bool { return "KV_"+strings.Split(at, " ")[0] == name })
}
