package stream

import (
	"errors"
	"fmt"
	"strconv"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/natstest"
)

// openBatch begins an atomic batch of its own, as any client may that can publish, and leaves it open.
func openBatch(t *testing.T, nc *nats.Conn, id, subject string, n int) {
	t.Helper()
	for i := range n {
		m := nats.NewMsg(subject)
		m.Header.Set("Nats-Batch-Id", id)
		m.Header.Set("Nats-Batch-Sequence", strconv.Itoa(i+1))
		if answer, err := nc.RequestMsg(m, AckTimeout); err != nil || len(answer.Data) > 0 {
			t.Fatalf("part %d of an open batch: %v, %s", i, err, answer.Data)
		}
	}
}

func serve(t *testing.T, dir string) (*server.Server, *Access) {
	t.Helper()
	s, err := server.NewServer(&server.Options{DontListen: true, NoLog: true, NoSigs: true, JetStream: true, StoreDir: dir, JetStreamMaxStore: 8 << 30})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	a, err := NewAccess(nc, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.Close()
		nc.Close()
		s.Shutdown()
		s.WaitForShutdown()
	})
	if _, err := Ensure(t.Context(), a.JS, Settings{Partitions: 4, JobsBytes: 64 << 20, ResultsBytes: 64 << 20, SessionQueue: 5}); err != nil {
		t.Fatal(err)
	}
	if err := a.Begin(); err != nil {
		t.Fatal(err)
	}
	return s, a
}

func several(subject string, n int) (all []Message) {
	for i := range n {
		all = append(all, Message{Subject: subject, Header: map[string][]string{"Dspex-Job": {fmt.Sprint("j", i)}}, Data: []byte("{}")})
	}
	return all
}

func (a *Access) stored(t *testing.T, name string) uint64 {
	t.Helper()
	n, _, err := a.Count(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestMessagesAreStoredTogetherOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	s, a := serve(t, dir)
	if err := a.StoreTogether(t.Context(), Anonymous, several("dspex.anonymous.batch", contract.MaxTogether), nil); err != nil {
		t.Fatal(err)
	}
	if err := a.StoreTogether(t.Context(), Anonymous, several("dspex.anonymous.batch", contract.MaxTogether+1), nil); !errors.Is(err, ErrRefused) {
		t.Errorf("one more than the broker takes: %v", err)
	}
	mixed := append(several("dspex.anonymous.batch", 2), several("dspex.session.s1", 2)...)
	if err := a.StoreTogether(t.Context(), Jobs, mixed, nil); err == nil {
		t.Error("messages of two streams were stored together")
	}
	if err := a.StoreTogether(t.Context(), Jobs, several("dspex.session.s1", 6), nil); !errors.Is(err, ErrSubjectFull) {
		t.Errorf("more than a session may have: %v", err)
	}
	openBatch(t, a.NC, "dies", "dspex.session.s1", 3)
	if jobs, anonymous := a.stored(t, Jobs), a.stored(t, Anonymous); jobs != 0 || anonymous != contract.MaxTogether {
		t.Errorf("%d and %d messages, want 0 and %d", jobs, anonymous, contract.MaxTogether)
	}
	a.NC.Close()
	s.Shutdown()
	s.WaitForShutdown()

	_, a = serve(t, dir)
	if jobs, anonymous := a.stored(t, Jobs), a.stored(t, Anonymous); jobs != 0 || anonymous != contract.MaxTogether {
		t.Errorf("after a restart in the middle of a batch: %d and %d messages, want 0 and %d", jobs, anonymous, contract.MaxTogether)
	}
	if err := a.StoreTogether(t.Context(), Jobs, several("dspex.session.s1", 5), nil); err != nil {
		t.Errorf("after the restart: %v", err)
	}
}

func TestAStreamWhoseBatchesAreAllTakenIsBusy(t *testing.T) {
	_, a := serve(t, t.TempDir())
	for i := range 50 {
		openBatch(t, a.NC, fmt.Sprint("held", i), "dspex.session.s1", 1)
	}
	if err := a.StoreTogether(t.Context(), Jobs, several("dspex.session.s2", 2), nil); !errors.Is(err, ErrBusy) {
		t.Errorf("with 50 open batches: %v", err)
	}
	if err := a.StoreTogether(t.Context(), Anonymous, several("dspex.anonymous.batch", 2), nil); err != nil {
		t.Errorf("the other stream: %v", err)
	}
	if _, err := a.JS.Publish(t.Context(), "dspex.session.s2", nil); err != nil {
		t.Errorf("a single message: %v", err)
	}
}

// A deployment of before has a lane whose stream takes no atomic batches.
func TestStreamsOfEarlierVersionsTakeAtomicBatches(t *testing.T) {
	_, a := serve(t, t.TempDir())
	for _, name := range []string{Jobs, Anonymous} {
		at, err := a.JS.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		cfg := at.CachedInfo().Config
		cfg.AllowAtomicPublish = false
		if _, err := a.JS.UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.StoreTogether(t.Context(), Anonymous, several("dspex.anonymous.batch", 2), nil); !errors.Is(err, ErrRefused) {
		t.Errorf("before: %v", err)
	}
	if _, err := Ensure(t.Context(), a.JS, Settings{}); err != nil {
		t.Fatal(err)
	}
	for name, subject := range map[string]string{Anonymous: "dspex.anonymous.batch", Jobs: "dspex.session.s1"} {
		if err := a.StoreTogether(t.Context(), name, several(subject, 2), nil); err != nil {
			t.Errorf("after, under %s: %v", subject, err)
		}
	}
}

// twoQueues are a message of s2 and n of s1.
func twoQueues(n int) ([]Message, []Queue) {
	all := append(several("dspex.session.s2", 1), several("dspex.session.s1", n)...)
	return all, []Queue{{Subject: "dspex.*.*.default.s2.session", First: 0, Number: 1}, {Subject: "dspex.*.*.default.s1.session", First: 1, Number: n}}
}

// Of these the broker alone stores a part, every second time.
func TestSeveralQueuesAreStoredTogetherOrNotAtAll(t *testing.T) {
	_, a := serve(t, t.TempDir())
	if err := a.StoreTogether(t.Context(), Jobs, several("dspex.session.s1", 4), nil); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		all, queues := twoQueues(2)
		if err := a.StoreTogether(t.Context(), Jobs, all, queues); !errors.Is(err, ErrSubjectFull) {
			t.Fatal(err)
		}
		if n := a.stored(t, Jobs); n != 4 {
			t.Fatalf("%d are stored, want 4", n)
		}
	}
}

func TestWhatComesBetweenTheCountAndTheWriteIsNotMissed(t *testing.T) {
	_, a := serve(t, t.TempDir())
	if err := a.StoreTogether(t.Context(), Jobs, several("dspex.session.s1", 3), nil); err != nil {
		t.Fatal(err)
	}
	all, queues := twoQueues(1)
	if err := a.hold(t.Context(), Jobs, all, queues); err != nil {
		t.Fatal(err)
	}
	if _, err := a.JS.Publish(t.Context(), "dspex.session.s1", nil); err != nil {
		t.Fatal(err)
	}
	if err := a.publishTogether(t.Context(), all); !errors.Is(err, ErrWrongRevision) {
		t.Errorf("with another message between: %v", err)
	}
	if n := a.stored(t, Jobs); n != 4 {
		t.Errorf("%d are stored, want 4", n)
	}
}

// In a cluster the broker proposes all messages at once, and other writes of the subjects may be under way.
func TestAClusterStoresMessagesTogetherOrNotAtAll(t *testing.T) {
	c := natstest.RunCluster(t)
	nc := natstest.Connect(t, c.Servers[0])
	a, err := NewAccess(nc, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Ensure(t.Context(), a.JS, Settings{Partitions: 4, Replicas: 3, JobsBytes: 64 << 20, ResultsBytes: 64 << 20, DeadBytes: 64 << 20, AuditBytes: 64 << 20, BatchBytes: 64 << 20, ObjectBytes: 64 << 20, SessionQueue: 5}); err != nil {
		t.Fatal(err)
	}
	if err := a.Begin(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	if err := a.StoreTogether(t.Context(), Jobs, several("dspex.session.s1", 3), nil); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		all, queues := twoQueues(3)
		if err := a.StoreTogether(t.Context(), Jobs, all, queues); !errors.Is(err, ErrSubjectFull) {
			t.Fatal(err)
		}
	}
	all, queues := twoQueues(2)
	if err := a.StoreTogether(t.Context(), Jobs, all, queues); err != nil {
		t.Fatal(err)
	}
	if err := a.StoreTogether(t.Context(), Anonymous, several("dspex.anonymous.batch", contract.MaxTogether), nil); err != nil {
		t.Fatal(err)
	}
	if jobs, anonymous := a.stored(t, Jobs), a.stored(t, Anonymous); jobs != 6 || anonymous != contract.MaxTogether {
		t.Errorf("%d and %d messages, want 6 and %d", jobs, anonymous, contract.MaxTogether)
	}
}
