package stream

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Layout is one way to spread the sessions over partitions. The jobs of a session lie under dspex.<token>.<partition>.<tenant>.<session>.<who>,
// so a message says itself which layout it belongs to. A change of the number of partitions is a new layout for what is stored
// from then on: nothing that waits is moved, and sequences go on. What lies in an earlier layout is older than all that lies in
// the next one, so the layouts are served one after the other.
type Layout struct {
	Token      string
	Partitions int
}

// FirstLayout is the token of the layout that a stream is made with; later ones are named p<partitions>-<number of the change>.
const FirstLayout = "p"

// Layouts are the one that is served and the one that new jobs get; they are the same but while the number is being changed.
type Layouts struct {
	Serving, Next Layout
}

// Changing reports whether jobs of an earlier layout are left.
func (l Layouts) Changing() bool { return l.Serving != l.Next }

// What the stream's metadata tell once the number was changed.
const (
	firstCount   = "dspex_first_layout"    // partitions of the first layout
	layoutBefore = "dspex_layout_before"   // token of the layout before the present one
	layoutSince  = "dspex_layout_since_ms" // when it became the one before, by the broker's clock
)

// layoutOf reads the layout of new jobs from the stream's subject transform.
func layoutOf(cfg jetstream.StreamConfig) (Layout, error) {
	t := cfg.SubjectTransform
	if t == nil {
		return Layout{}, fmt.Errorf("stream %s has no subject transform: it was not made by dspex", Jobs)
	}
	before, rest, _ := strings.Cut(t.Destination, ".{{partition(")
	number, _, _ := strings.Cut(rest, ",")
	token, ours := strings.CutPrefix(before, "dspex.")
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || !ours {
		return Layout{}, fmt.Errorf("stream %s: subject transform %q: expected dspex.<layout>.{{partition(n,1)}}", Jobs, t.Destination)
	}
	return Layout{Token: token, Partitions: n}, nil
}

var laterLayout = regexp.MustCompile(`^p([0-9]{1,6})-([0-9]{1,9})$`)

// layoutNamed is the layout of a token.
func layoutNamed(cfg jetstream.StreamConfig, token string) (Layout, error) {
	number := cfg.Metadata[firstCount]
	if m := laterLayout.FindStringSubmatch(token); m != nil {
		number = m[1]
	} else if token != FirstLayout {
		number = ""
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 {
		return Layout{}, fmt.Errorf("stream %s holds jobs under dspex.%s: expected p or p<partitions>-<number>", Jobs, token)
	}
	return Layout{Token: token, Partitions: n}, nil
}

// anyLayout matches the jobs of all layouts, and nothing else in the stream.
const anyLayout = "dspex.*.*.>"

// ReadLayouts finds out what is served: the layout of the oldest job that is left.
func ReadLayouts(ctx context.Context, js jetstream.JetStream) (Layouts, error) {
	s, err := js.Stream(ctx, Jobs)
	if err != nil {
		return Layouts{}, fmt.Errorf("stream %s: %w", Jobs, err)
	}
	cfg := s.CachedInfo().Config
	next, err := layoutOf(cfg)
	if err != nil || cfg.Metadata[firstCount] == "" { // there was never another one
		return Layouts{next, next}, err
	}
	if unsettled(cfg, s.CachedInfo().TimeStamp) {
		serving, err := layoutNamed(cfg, cfg.Metadata[layoutBefore])
		return Layouts{serving, next}, err
	}
	oldest, err := GetNext(ctx, js.Conn(), Jobs, anyLayout, 1)
	if errors.Is(err, ErrNotFound) {
		return Layouts{next, next}, nil
	}
	if err != nil {
		return Layouts{}, err
	}
	token, _, _ := strings.Cut(strings.TrimPrefix(oldest.Subject, "dspex."), ".")
	if token == next.Token {
		return Layouts{next, next}, nil
	}
	serving, err := layoutNamed(cfg, token)
	return Layouts{serving, next}, err
}

// layoutSettles is how long a replicated stream may still take jobs in the layout of before: a server that has just become its
// leader may not know of the change. On one server the change and the storing of a job exclude each other.
const layoutSettles = 5 * time.Second

func unsettled(cfg jetstream.StreamConfig, now time.Time) bool {
	since, err := strconv.ParseInt(cfg.Metadata[layoutSince], 10, 64)
	past := now.Sub(time.UnixMilli(since))
	return cfg.Replicas > 1 && err == nil && past.Abs() < layoutSettles // a change far ahead: the broker's clock was set back since
}

// Repartition gives jobs that are stored from now on another number of partitions. What waits stays where it is.
func Repartition(ctx context.Context, js jetstream.JetStream, partitions int) error {
	s, err := js.Stream(ctx, Jobs)
	if err != nil {
		return fmt.Errorf("stream %s: %w", Jobs, err)
	}
	cfg := s.CachedInfo().Config
	now, err := layoutOf(cfg)
	if err != nil || now.Partitions == partitions {
		return err
	}
	if s, err = whenCurrent(ctx, js, s); err != nil {
		return err
	}
	cfg = s.CachedInfo().Config
	change := 1
	if m := laterLayout.FindStringSubmatch(now.Token); m != nil {
		if change, err = strconv.Atoi(m[2]); err != nil {
			return err
		}
		change++
	}
	if cfg.Metadata == nil {
		cfg.Metadata = map[string]string{}
	}
	if now.Token == FirstLayout {
		cfg.Metadata[firstCount] = strconv.Itoa(now.Partitions)
	}
	cfg.Metadata[layoutBefore] = now.Token
	cfg.Metadata[layoutSince] = strconv.FormatInt(s.CachedInfo().TimeStamp.UnixMilli(), 10)
	next := Layout{Token: fmt.Sprintf("p%d-%d", partitions, change), Partitions: partitions}
	cfg.SubjectTransform = next.transform(cfg.SubjectTransform.Source == tenantSubjects)
	cfg.MaxConsumers = max(cfg.MaxConsumers, 4*partitions)
	if _, err := js.UpdateStream(ctx, cfg); err != nil {
		return fmt.Errorf("stream %s: %w", Jobs, err)
	}
	return nil
}

// NotCurrentError says that a replica has not all that the others have.
type NotCurrentError struct{ Server string }

func (e *NotCurrentError) Error() string {
	return fmt.Sprintf("all replicas of stream %s must have all of it before the number of partitions changes, server %s has not", Jobs, e.Server)
}

const (
	currentWait  = 5 * time.Second
	currentPause = 50 * time.Millisecond
)

// whenCurrent waits for a moment in which every replica has all of the stream. Each server of a cluster applies the transform itself
// when it stores a message (nats-server 2.15.2): one that stores what came before the change after it has it under another subject
// than the others, where no consumer finds it. A job that is stored in the moment of the change can still meet that: docs/operations.md
// says what an operator does.
func whenCurrent(ctx context.Context, js jetstream.JetStream, s jetstream.Stream) (jetstream.Stream, error) {
	for end := time.Now().Add(currentWait); ; {
		behind := allCurrent(s.CachedInfo().Cluster)
		if behind == nil || time.Now().After(end) {
			return s, behind
		}
		select {
		case <-ctx.Done():
			return s, behind
		case <-time.After(currentPause):
		}
		var err error
		if s, err = js.Stream(ctx, Jobs); err != nil {
			return s, fmt.Errorf("stream %s: %w", Jobs, err)
		}
	}
}

// allCurrent names a replica that is behind.
func allCurrent(c *jetstream.ClusterInfo) error {
	if c == nil {
		return nil
	}
	for _, r := range c.Replicas {
		if r.Offline || !r.Current || r.Lag > 0 || r.Active > silentReplica {
			return &NotCurrentError{r.Name}
		}
	}
	return nil
}

// Waiting counts the jobs of a layout that are left.
func Waiting(ctx context.Context, js jetstream.JetStream, l Layout) (n uint64, err error) {
	s, err := js.Stream(ctx, Jobs)
	if err != nil {
		return 0, fmt.Errorf("stream %s: %w", Jobs, err)
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter("dspex."+l.Token+".>"))
	if err != nil {
		return 0, fmt.Errorf("stream %s: %w", Jobs, err)
	}
	for _, messages := range info.State.Subjects {
		n += messages
	}
	return n, nil
}

// DropLayouts deletes the partitions' consumers of all layouts but one. Nothing is left there for them, and a stream has room for
// so many consumers only.
func DropLayouts(ctx context.Context, js jetstream.JetStream, keep Layout) error {
	s, err := js.Stream(ctx, Jobs)
	if err != nil {
		return fmt.Errorf("stream %s: %w", Jobs, err)
	}
	list := s.ListConsumers(ctx)
	var others []string
	for c := range list.Info() {
		if ours[Jobs].MatchString(c.Name) && !strings.HasPrefix(c.Config.FilterSubject, "dspex."+keep.Token+".") {
			others = append(others, c.Name)
		}
	}
	if err := list.Err(); err != nil {
		return fmt.Errorf("list consumers: %w", err)
	}
	for _, name := range others {
		if err := js.DeleteConsumer(ctx, Jobs, name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return fmt.Errorf("delete consumer %s: %w", name, err)
		}
	}
	return nil
}
