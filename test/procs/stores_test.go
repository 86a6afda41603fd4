package procs

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/natstest"
)

// everyStore is what a broker holds of a deployment.
var everyStore = []string{"DSPEX_JOBS", "DSPEX_ANON", "DSPEX_DLQ", "DSPEX_EVENTS", "DSPEX_AUDIT", "KV_dspex_assign", "KV_dspex_sessions", "KV_dspex_results", "KV_dspex_control", "KV_dspex_batches", "OBJ_dspex_objects"}

// eventually waits until f is content.
func eventually(t *testing.T, what string, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		case <-tick.C:
		}
	}
}

func (d *deployment) streams() jetstream.JetStream {
	d.t.Helper()
	js, err := jetstream.New(natstest.Connect(d.t, d.broker))
	if err != nil {
		d.t.Fatal(err)
	}
	return js
}

// story is a session whose list grows by one entry at each chapter.
type story struct {
	t       *testing.T
	c       *dspex.Client
	session string
	told    []string
	counted map[string]bool // ids that the service counted
}

// goOn appends to the list, and insists until that is accepted. It returns what became of the session's state.
func (s *story) goOn(x string) dspex.SessionState {
	s.t.Helper()
	var state dspex.SessionState
	eventually(s.t, s.session+" goes on", func(ctx context.Context) error {
		r, err := s.c.Execute(ctx, s.session, "append", dspex.Args{"x": x}, dspex.WithJobID(x), dspex.WithTimeout(5*time.Second))
		if err != nil {
			return err
		}
		var got struct{ List []string }
		if err := r.Decode(&got); err != nil {
			return err
		}
		state = r.SessionState
		if state == dspex.SessionReset {
			s.told = nil
		}
		if s.told = append(s.told, x); !slices.Equal(got.List, s.told) {
			s.t.Errorf("%s: the list is %v, expected %v (state %s)", s.session, got.List, s.told, state)
		}
		return nil
	})
	return state
}

// count has a stored job under an id of the service's making.
func (s *story) count() {
	s.t.Helper()
	eventually(s.t, s.session+" stores a job", func(ctx context.Context) error {
		job, err := s.c.Submit(ctx, s.session, "sleep", dspex.Args{"ms": 1})
		if err != nil {
			return err
		}
		if s.counted[job.Job.ID] {
			s.t.Errorf("the id %s was counted twice", job.Job)
		}
		s.counted[job.Job.ID] = true
		_, err = s.c.Wait(ctx, job.Job)
		return err
	})
}

// tells waits until the health names something.
func tells(t *testing.T, c *dspex.Client, word string) {
	t.Helper()
	eventually(t, "health tells of "+word, func(ctx context.Context) error {
		h, err := c.Health(ctx)
		if err != nil {
			return err
		}
		if !strings.Contains(strings.Join(h.Reasons, "\n"), word) {
			return fmt.Errorf("%s %q", h.Status, h.Reasons)
		}
		return nil
	})
}

// epochsOf are the highest epochs that assignments had.
func epochsOf(t *testing.T, js jetstream.JetStream) map[string]uint64 {
	t.Helper()
	seen := map[string]uint64{}
	eventually(t, "every partition is assigned", func(ctx context.Context) error {
		kv, err := js.KeyValue(ctx, "dspex_assign")
		if err != nil {
			return err
		}
		for n := range 8 {
			key := "p." + strconv.Itoa(n)
			e, err := kv.Get(ctx, key)
			if err != nil {
				return err
			}
			seen[key] = e.Revision()
		}
		return nil
	})
	return seen
}

func TestADeletedStreamIsMadeAgainAndTheDeploymentGoesOn(t *testing.T) {
	d := deploy(t)
	dispatcher := d.start("dispatcher", "d1", "--partitions", "8")
	d.host("h1").awaitReady()
	d.host("h2").awaitReady()
	dispatcher.awaitReady()
	c, js := d.client(), d.streams()
	s := &story{t: t, c: c, session: "story", counted: map[string]bool{}}
	if state := s.goOn("first"); state != dspex.SessionNone {
		t.Errorf("the state of a new session is %s", state)
	}
	s.count()
	for _, name := range everyStore {
		t.Run(name, func(t *testing.T) {
			s.t = t
			before := epochsOf(t, js)
			if err := js.DeleteStream(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			state := s.goOn("after-" + name)
			if state == dspex.SessionNone || state == dspex.SessionReset && name != "KV_dspex_sessions" {
				t.Errorf("the state is %s", state)
			}
			s.count()
			tells(t, c, name)
			eventually(t, "an anonymous job runs", func(ctx context.Context) error {
				_, err := c.ExecuteAnonymous(ctx, "echo", dspex.Args{"x": 1}, dspex.WithTimeout(5*time.Second))
				return err
			})
			for key, epoch := range epochsOf(t, js) {
				if epoch < before[key] {
					t.Errorf("%s: epoch %d after %d", key, epoch, before[key])
				}
			}
			if !strings.Contains(dispatcher.said(), "store_lost") {
				t.Error("the dispatcher's log does not tell")
			}
		})
	}
}

func TestABrokerThatComesBackEmptyIsServedAgain(t *testing.T) {
	d := deploy(t)
	dispatcher := d.start("dispatcher", "d1", "--partitions", "8")
	d.host("h1").awaitReady()
	d.host("h2").awaitReady()
	dispatcher.awaitReady()
	c := d.client()
	s := &story{t: t, c: c, session: "story", counted: map[string]bool{}}
	s.goOn("first")
	s.count()
	before := slices.Collect(maps.Values(epochsOf(t, d.streams())))
	d.emptyBroker()
	if state := s.goOn("again"); state != dspex.SessionReset {
		t.Errorf("the state of a session whose store was lost is %s", state)
	}
	s.count()
	for key, epoch := range epochsOf(t, d.streams()) {
		if epoch <= slices.Max(before) {
			t.Errorf("%s: epoch %d was given out before: %v", key, epoch, before)
		}
	}
	for _, name := range everyStore {
		tells(t, c, name)
	}
}

// emptyBroker ends the broker and starts one without data at the same address.
func (d *deployment) emptyBroker() {
	d.t.Helper()
	u, err := url.Parse(d.url)
	if err != nil {
		d.t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		d.t.Fatal(err)
	}
	d.broker.Shutdown()
	d.broker.WaitForShutdown()
	d.broker = natstest.Run(d.t, func(o *server.Options) { o.Port, o.JetStreamMaxStore = port, 64<<30 })
}

func TestAForeignConsumerIsNamedAndRemovedOnAnOperatorsWord(t *testing.T) {
	d := deploy(t)
	js := d.streams()
	dispatcher := d.start("dispatcher", "d1", "--partitions", "1")
	h := d.host("h1").awaitReady()
	dispatcher.awaitReady()
	c := d.client()
	h.stop() // its consumer goes, and another one takes the partition
	if _, err := js.CreateConsumer(t.Context(), "DSPEX_JOBS", jetstream.ConsumerConfig{Durable: "mine", FilterSubject: "dspex.p.0.>", AckPolicy: jetstream.AckExplicitPolicy}); err != nil {
		t.Fatal(err)
	}
	d.host("h2").awaitReady()
	job, err := c.Submit(t.Context(), "s", "echo", dspex.Args{"x": 1})
	if err != nil {
		t.Fatal(err)
	}
	tells(t, c, "dspex consumers remove DSPEX_JOBS mine")
	list, err := c.Admin().Consumers(t.Context())
	switch {
	case err != nil:
		t.Fatalf("err must be nil, got %v; %+v, %v", err, list, err)
	case len(list) != 1:
		t.Fatalf("len(list) must be 1, got %v; %+v, %v", len(list), list, err)
	case list[0].Consumer != "mine":
		t.Fatalf(`list[0].Consumer must be "mine", got %v; %+v, %v`, list[0].Consumer, list, err)
	case list[0].Stream != "DSPEX_JOBS":
		t.Fatalf(`list[0].Stream must be "DSPEX_JOBS", got %v; %+v, %v`, list[0].Stream, list, err)
	}
	if err := c.Admin().RemoveConsumer(t.Context(), "DSPEX_JOBS", "p0-e1"); err == nil {
		t.Error("a consumer of dspex's own was removed")
	}
	if err := c.Admin().RemoveConsumer(t.Context(), "DSPEX_JOBS", "mine"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := c.Wait(ctx, job.Job); err != nil {
		t.Error(err)
	}
}
