package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/contract"
)

// ErrNotMine reports that the assignment changed hands: whoever sees it stops touching the partition.
var ErrNotMine = errors.New("the partition belongs to another epoch")

// ErrForeign reports that an assignment is none of ours.
var ErrForeign = errors.New("the assignment must be one that dspex writes")

// Owner is the value of an assignment p.<n>.
type Owner struct {
	Host        string `json:"host"`
	Incarnation string `json:"incarnation,omitempty"` // of the host process that the entry was written for
	Layout      string `json:"layout,omitempty"`      // token of the layout that the partition is one of; "" is the first one
	Shards      int    `json:"slots,omitempty"`       // of the layout, where a partition is more than one
	Partitions  int    `json:"partitions,omitempty"`  // of the layout, where a partition is more than one shard
}

// OwnerIn names a host for a partition of a layout, as entries of earlier releases do where they can.
func OwnerIn(l Layout, host, incarnation string) Owner {
	o := Owner{Host: host, Incarnation: incarnation, Layout: l.Token}
	if l.Token == FirstLayout {
		o.Layout = ""
	}
	if l.Grouped() {
		o.Shards, o.Partitions = l.Shards, l.Partitions
	}
	return o
}

// In reports whether the partition is one of a layout.
func (o Owner) In(l Layout) bool { return o == OwnerIn(l, o.Host, o.Incarnation) }

// Same reports whether two entries are of one layout.
func (o Owner) Same(p Owner) bool {
	p.Host, p.Incarnation = o.Host, o.Incarnation
	return o == p
}

// Filters are the subjects of the jobs of partition n.
func (o Owner) Filters(n int) []string {
	l := Layout{Token: o.Layout, Shards: max(o.Shards, n+1), Partitions: o.Partitions}
	if l.Token == "" {
		l.Token = FirstLayout
	}
	if l.Partitions == 0 { // one shard
		l.Partitions = l.Shards
	}
	return l.Filters(n)
}

// ParseOwner reads an assignment's value.
func ParseOwner(b []byte) (Owner, error) {
	var o Owner
	if err := json.Unmarshal(b, &o); err != nil || !contract.ValidSession(o.Host) || o.Partitions < 0 || o.Shards < o.Partitions || o.Shards > mostShards {
		return Owner{}, fmt.Errorf("%w: expected {\"host\": ...}", ErrForeign)
	}
	return o, nil
}

// mostShards bounds what an entry may contain.
const mostShards = 4096

// Bytes is the stored form.
func (o Owner) Bytes() []byte {
	b, err := json.Marshal(o)
	if err != nil {
		panic(err) // two strings always marshal
	}
	return b
}

// Claims are the assignments and the partition consumers behind them.
type Claims struct {
	js     jetstream.JetStream
	assign *Bucket
}

// NewClaims works on the assignment bucket that Ensure made.
func NewClaims(js jetstream.JetStream, assign *Bucket) *Claims {
	return &Claims{js: js, assign: assign}
}

// Read returns a partition's owner and the epoch (revision); epoch 0 means that nobody ever had it.
func (c *Claims) Read(ctx context.Context, key string) (Owner, uint64, error) {
	e, err := c.assign.Get(ctx, key)
	if err != nil || !e.Exists {
		return Owner{}, e.Revision, err
	}
	o, err := ParseOwner(e.Value)
	return o, e.Revision, err
}

// Write makes owner the holder of key if its revision is still seen; the new revision is the epoch.
func (c *Claims) Write(key string, owner Owner, seen uint64) (uint64, error) {
	epoch, err := c.assign.PutSync(key, owner.Bytes(), seen, 0)
	if errors.Is(err, ErrWrongRevision) {
		return 0, ErrNotMine
	}
	return epoch, err
}

// Consumer is what Take makes: the one consumer of a partition.
type Consumer struct {
	Key     string // assignment key
	Prefix  string // of all consumers of the partition
	Name    string // Prefix + epoch
	Filters []string
	Epoch   uint64
}

// Take creates the consumer of an epoch, after deleting those of every other epoch. It reads the assignment again before
// each delete and each create and stops with ErrNotMine unless its revision is the caller's epoch.
func (c *Claims) Take(ctx context.Context, want Consumer) (*Taken, error) {
	before, err := c.js.Stream(ctx, Jobs)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", Jobs, err)
	}
	cfg := jetstream.ConsumerConfig{
		Name: want.Name, Durable: want.Name, AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: 10 * time.Minute, MaxDeliver: -1, MaxAckPending: MaxAckPending, MaxWaiting: 64,
		InactiveThreshold: 24 * time.Hour, MemoryStorage: before.CachedInfo().Config.Replicas == 1,
	}
	if len(want.Filters) == 1 { // also a broker whose permissions are of an earlier release takes it
		cfg.FilterSubject = want.Filters[0]
	} else {
		cfg.FilterSubjects = want.Filters
	}
	for range 5 {
		if err := c.mine(ctx, want); err != nil {
			return nil, err
		}
		cons, err := c.js.CreateOrUpdateConsumer(ctx, Jobs, cfg)
		if err == nil {
			identity, err := c.sameStream(ctx, identityOf(before.CachedInfo()))
			if err != nil {
				return nil, err
			}
			return &Taken{Identity: identity, cons: cons, name: want.Name, bytes: pullBytes(c.js.Conn())}, nil
		}
		var api *jetstream.APIError
		if !errors.As(err, &api) || api.ErrorCode != 10100 {
			return nil, fmt.Errorf("consumer %s: %w", want.Name, err)
		}
		if err := c.deleteOthers(ctx, want); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("consumer %s: another consumer of %s is in the way (`dspex consumers list`)", want.Name, strings.Join(want.Filters[:1], ", "))
}

// sameStream is the identity of the stream in which the consumer was made: it was the same one before and is after that.
func (c *Claims) sameStream(ctx context.Context, before int64) (int64, error) {
	after, err := c.js.Stream(ctx, Jobs)
	if err != nil {
		return 0, fmt.Errorf("stream %s: %w", Jobs, err)
	}
	if identityOf(after.CachedInfo()) != before {
		return 0, fmt.Errorf("stream %s was recreated in the meantime", Jobs)
	}
	return before, nil
}

func (c *Claims) mine(ctx context.Context, want Consumer) error {
	_, epoch, err := c.Read(ctx, want.Key)
	if err != nil {
		return err
	}
	if epoch != want.Epoch {
		return ErrNotMine
	}
	return nil
}

// Release gives a partition back that the caller's epoch holds: its consumer goes, and the assignment names nobody until the
// leader assigns it again. It stops with ErrNotMine if the assignment has moved on.
func (c *Claims) Release(ctx context.Context, held Consumer) error {
	if err := c.mine(ctx, held); err != nil {
		return err
	}
	if err := c.js.DeleteConsumer(ctx, Jobs, held.Name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("delete consumer %s: %w", held.Name, err)
	}
	_, err := c.assign.Delete(held.Key, held.Epoch)
	if errors.Is(err, ErrWrongRevision) {
		return ErrNotMine
	}
	return err
}

// deleteOthers removes what earlier claimants left, also those that the key's history no longer shows.
func (c *Claims) deleteOthers(ctx context.Context, want Consumer) error {
	s, err := c.js.Stream(ctx, Jobs)
	if err != nil {
		return fmt.Errorf("stream %s: %w", Jobs, err)
	}
	names := s.ConsumerNames(ctx)
	var others, rest []string
	for name := range names.Name() {
		switch {
		case name == want.Name:
		case strings.HasPrefix(name, want.Prefix):
			others = append(others, name)
		case ours[Jobs].MatchString(name):
			rest = append(rest, name)
		}
	}
	if err := names.Err(); err != nil {
		return fmt.Errorf("list consumers: %w", err)
	}
	if len(others) == 0 { // what is in the way is of another layout, whose assignments are gone
		if others, err = overlapping(ctx, s, rest, want.Filters); err != nil {
			return err
		}
	}
	for _, name := range others {
		if err := c.mine(ctx, want); err != nil {
			return err
		}
		if err := c.js.DeleteConsumer(ctx, Jobs, name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return fmt.Errorf("delete consumer %s: %w", name, err)
		}
	}
	return nil
}

// overlapping are those of some consumers that get jobs which others are to have.
func overlapping(ctx context.Context, s jetstream.Stream, names, subjects []string) (found []string, err error) {
	for _, name := range names {
		c, err := s.Consumer(ctx, name)
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("consumer %s: %w", name, err)
		}
		if slices.ContainsFunc(filters(c.CachedInfo().Config), func(f string) bool { return slices.Contains(subjects, f) }) {
			found = append(found, name)
		}
	}
	return found, nil
}
