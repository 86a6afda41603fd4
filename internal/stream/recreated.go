package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A stream or bucket can be lost while the processes live: deleted, or with the broker's store. What is recreated begins a
// new count, and its sequences (revisions) begin above all that a lost store gave out. So the ids that the service counts, the
// sequences in records and the epochs never meet those of a lost store, and a number that is expected for a
// compare-and-set is never right by chance.

// Survey is what a look at the broker objects finds.
type Survey struct {
	Missing []string
	Renewed map[string]time.Time // those in a recreated store -> when it began
	Highest uint64               // sequence that any of them has given out
	Bounded map[string]Bounded   // those that refuse what has no room
}

// Bounded is what an object holds and may hold, in bytes.
type Bounded struct {
	Used uint64
	Room int64
}

// Look finds out which broker objects there are. An error is no evidence about any of them.
func Look(ctx context.Context, js jetstream.JetStream) (Survey, error) {
	found := Survey{Renewed: map[string]time.Time{}, Bounded: map[string]Bounded{}}
	for _, cfg := range objects(Settings{}.withDefaults()) {
		s, err := js.Stream(ctx, cfg.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			found.Missing = append(found.Missing, cfg.Name)
			continue
		}
		if err != nil {
			return Survey{}, fmt.Errorf("stream %s: %w", cfg.Name, err)
		}
		info := s.CachedInfo()
		if info.Config.FirstSeq > 1 {
			found.Renewed[cfg.Name] = info.Created
		}
		if info.Config.MaxBytes > 0 && info.Config.Discard == jetstream.DiscardNew {
			found.Bounded[cfg.Name] = Bounded{info.State.Bytes, info.Config.MaxBytes}
		}
		found.Highest = max(found.Highest, info.State.LastSeq)
	}
	return found, nil
}

// LossPause is the time between the two looks that must both miss an object before it is recreated.
const LossPause = 500 * time.Millisecond

// Make makes the broker objects that are missing and returns their names. Where nothing was ever used they begin at 1.
func Make(ctx context.Context, js jetstream.JetStream, s Settings) (made []string, err error) {
	s = s.withDefaults()
	found, err := Look(ctx, js)
	if err != nil || len(found.Missing) == 0 {
		return nil, err
	}
	s.Remembered = max(s.Remembered, found.Highest)
	if s.Remembered > 0 {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(LossPause):
		}
		again, err := Look(ctx, js)
		if err != nil {
			return nil, err
		}
		found.Missing = common(found.Missing, again.Missing)
		s.Remembered = max(s.Remembered, again.Highest)
	}
	return create(ctx, js, s, found.Missing)
}

func common(a, b []string) []string {
	return slices.DeleteFunc(a, func(name string) bool { return !slices.Contains(b, name) })
}

// create makes what is missing. A request for one that is there would be refused where its room is not there twice.
func create(ctx context.Context, js jetstream.JetStream, s Settings, missing []string) (made []string, err error) {
	first := beginning(time.Now(), s.Remembered)
	for _, cfg := range objects(s) {
		if !slices.Contains(missing, cfg.Name) {
			continue
		}
		if cfg.FirstSeq = first; (cfg.Name == Audit || cfg.Name == BatchesStream || cfg.Name == ObjectsStream) && s.neverThere {
			cfg.FirstSeq = 0
		}
		_, err := js.CreateStream(ctx, cfg)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another dispatcher was faster
			continue
		}
		if err != nil {
			return made, fmt.Errorf("stream %s: %w", cfg.Name, err)
		}
		made = append(made, cfg.Name)
	}
	return made, nil
}

// unseen is more than a stream gives out between two looks at it.
const unseen = 1 << 24

// beginning is the first sequence of what is made: 0, for the beginning, if no number was ever given out. Else it is the time in
// microseconds, which no stream overtakes, and which is known when nobody keeps the lost store. It stays below 2^53, so that every reader
// of JSON can represent it, until the year 2255. What is kept counts if a clock was set back.
func beginning(now time.Time, remembered uint64) uint64 {
	if remembered == 0 {
		return 0
	}
	return max(uint64(now.UnixMicro()), remembered+unseen)
}

// contents is what is lost with an object.
var contents = map[string]string{
	Jobs:           "jobs of sessions that were accepted and had no outcome",
	Anonymous:      "jobs without session that were accepted and had no outcome",
	Dead:           "dead letters",
	Events:         "events",
	Audit:          "the record of what operators did",
	"KV_" + Assign: "which host owns which sessions: it is assigned again",
	RecordsStream:  "states of sessions",
	ResultsStream:  "outcomes of jobs",
	BatchesStream:  "batches: their jobs that were not published, and their outcomes",
	ObjectsStream:  "large results and arguments: replies and jobs still refer to them",
	ControlStream:  "drained hosts, the default language model, open circuit breakers: dispatchers write again what they have in memory",
}

// Contents describes what a broker object contains.
func Contents(name string) string { return contents[name] }
