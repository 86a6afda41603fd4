package host_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/affinity"
	"github.com/dspex/dspex/internal/dispatch"
	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/host"
)

// cluster is a broker, a dispatcher and hosts that come and go, each with a pool of its own.
type cluster struct {
	*system
	hosts  map[string]*member
	adjust func(*host.Config) // of hosts that join; may be nil
}

type member struct {
	*host.Host
	pool *pool
	stop context.CancelFunc
	done chan struct{}
}

// answer is a reply with its origin.
type answer struct {
	reply
	Session struct{ State, Host string } `json:"session"`
	RanOn   struct{ Host string }        `json:"ran_on"`
}

// ask calls from a goroutine of its own.
func (c *cluster) ask(subject, job, body string) <-chan answer {
	got := make(chan answer, 1)
	m := &nats.Msg{Subject: subject, Data: []byte(body), Header: nats.Header{}}
	if job != "" {
		m.Header.Set("Dspex-Job", job)
	}
	go func() {
		var a answer
		r, err := c.nc.RequestMsg(m, 30*time.Second)
		if err == nil {
			err = json.Unmarshal(r.Data, &a)
		}
		if err != nil {
			c.t.Errorf("%s: %v", subject, err)
		}
		got <- a
	}()
	return got
}

func startCluster(t *testing.T, names ...string) *cluster {
	t.Helper()
	return startAdjusted(t, nil, names...)
}

func startAdjusted(t *testing.T, adjust func(*host.Config), names ...string) *cluster {
	t.Helper()
	c := &cluster{system: &system{t: t, srv: broker(t, t.TempDir())}, hosts: map[string]*member{}, adjust: adjust}
	c.nc = c.connect()
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	ready := make(chan struct{})
	d, err := dispatch.New(dispatch.Config{Name: "d1", NC: c.connect(), OnReady: func() { close(ready) }})
	if err != nil {
		t.Fatal(err)
	}
	c.done.Go(func() {
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		for _, m := range c.hosts {
			m.stop()
			m.Hurry()
			<-m.done
		}
		c.close()
	})
	for _, name := range names {
		c.join(name)
	}
	await(t, ready, "the cluster is not ready")
	return c
}

func (c *cluster) join(name string) *member {
	c.t.Helper()
	m := &member{pool: newPool(8), done: make(chan struct{})}
	cfg := host.Config{Name: name, NC: c.connect(), Pool: m.pool, Models: noModels{}, Capacity: 8}
	if c.adjust != nil {
		c.adjust(&cfg)
	}
	h, err := host.New(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	m.Host, m.stop = h, stop
	c.hosts[name] = m
	go func() {
		defer close(m.done)
		if err := h.Run(ctx); err != nil {
			c.t.Error(err)
		}
	}()
	return m
}

// owners follows the assignments until enough returns true.
func (c *cluster) owners(what string, enough func(owners map[string]string) bool) map[string]string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	js, err := jetstream.New(c.nc)
	if err != nil {
		c.t.Fatal(err)
	}
	kv, err := js.KeyValue(ctx, "dspex_assign")
	if err != nil {
		c.t.Fatal(err)
	}
	w, err := kv.WatchAll(ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	owners := map[string]string{}
	caughtUp := false
	for {
		select {
		case e := <-w.Updates():
			var o struct{ Host string }
			switch {
			case e == nil:
				caughtUp = true
			case len(e.Value()) > 0 && json.Unmarshal(e.Value(), &o) != nil:
				c.t.Fatalf("%s: %q", e.Key(), e.Value())
			default:
				owners[e.Key()] = o.Host
			}
			if caughtUp && enough(owners) {
				return owners
			}
		case <-ctx.Done():
			c.t.Fatalf("%s: %v", what, owners)
		}
	}
}

func allBut(n int, name string) func(map[string]string) bool {
	return func(owners map[string]string) bool {
		others := 0
		for _, o := range owners {
			if o != "" && o != name {
				others++
			}
		}
		return len(owners) == 64 && others == 64-n
	}
}

func await(t *testing.T, c <-chan struct{}, otherwise string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(30 * time.Second):
		t.Fatal(otherwise)
	}
}

// sessionOf finds a session whose partition belongs to the host.
func (c *cluster) sessionOf(name string) string {
	owners := c.owners("no partitions of "+name, func(owners map[string]string) bool {
		for _, o := range owners {
			if o == name {
				return len(owners) == 64
			}
		}
		return false
	})
	for n := 0; ; n++ {
		id := fmt.Sprintf("s%d", n)
		if owners[fmt.Sprintf("p.%d", affinity.Partition(id, 64))] == name {
			return id
		}
	}
}

// hold makes the command `hold` wait until the returned function is called.
func (p *pool) hold() (started <-chan struct{}, release func()) {
	begun, free := make(chan struct{}), make(chan struct{})
	var once sync.Once
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hook = func(ctx context.Context, c frame.CallBody) (frame.Frame, error, bool) {
		if c.Command == "hold" {
			once.Do(func() { close(begun) })
			select {
			case <-free:
			case <-ctx.Done():
				return frame.Frame{}, ctx.Err(), true
			}
		}
		return frame.Frame{}, nil, false
	}
	return begun, sync.OnceFunc(func() { close(free) })
}

func TestAStoppingHostFinishesWhatRunsAndHandsEachPartitionOverAsSoonAsItIsIdle(t *testing.T) {
	c := startCluster(t, "h1", "h2")
	id := c.sessionOf("h1")
	c.call("dspex.rpc.session."+id, "one", echo)
	m := c.hosts["h1"]
	started, release := m.pool.hold()
	defer release()
	running := c.ask("dspex.rpc.session."+id, "two", `{"command":"hold"}`)
	await(t, started, "the job did not start")
	m.stop()
	c.owners("the idle partitions did not move", allBut(1, "h1"))
	select {
	case r := <-running:
		t.Fatalf("answered while it runs: %+v", r)
	default:
	}
	waiting := c.ask("dspex.rpc.session."+id, "three", echo)
	release()
	if r := <-running; string(r.Result) != `["one","two"]` {
		t.Errorf("the running job: %s %+v", r.Result, r.Error)
	}
	if r := <-waiting; string(r.Result) != `["one","two","three"]` || r.Session.State != "restored" || r.Session.Host != "h2" {
		t.Errorf("the waiting job: %s %+v", r.Result, r)
	}
	await(t, m.done, "the host did not end")
	c.owners("the last partition did not move", allBut(0, "h1"))
}

func TestAHostInAHurryGivesUpWhatRunsAndTheNextAttemptRunsElsewhere(t *testing.T) {
	c := startCluster(t, "h1", "h2")
	id := c.sessionOf("h1")
	m := c.hosts["h1"]
	started, _ := m.pool.hold()
	running := c.ask("dspex.rpc.session."+id, "one", `{"command":"hold"}`)
	await(t, started, "the job did not start")
	m.stop()
	m.Hurry()
	await(t, m.done, "the host did not end")
	if r := <-running; string(r.Result) != `["one"]` || r.Attempt != 2 || r.Session.Host != "h2" {
		t.Errorf("%s %+v", r.Result, r)
	}
}

func TestADrainedHostKeepsRunningWithoutPartitionsAndAnonymousJobsUntilItIsResumed(t *testing.T) {
	c := startCluster(t, "h1", "h2")
	js, err := jetstream.New(c.nc)
	if err != nil {
		t.Fatal(err)
	}
	control, err := js.KeyValue(t.Context(), "dspex_control")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := control.Put(t.Context(), "drain.h1", []byte(`{"since": "2026-05-04T03:02:01.000Z"}`)); err != nil {
		t.Fatal(err)
	}
	c.owners("the host was not drained", allBut(0, "h1"))
	began := time.Now()
	for elsewhere := 0; elsewhere < 50; elsewhere++ { // a pull that was under way may still bring jobs for a second
		if r := <-c.ask("dspex.rpc.anonymous", "", echo); r.RanOn.Host != "h2" {
			elsewhere = 0
		}
		if time.Since(began) > 30*time.Second {
			t.Fatal("the drained host goes on running anonymous jobs")
		}
	}
	if err := control.Delete(t.Context(), "drain.h1"); err != nil {
		t.Fatal(err)
	}
	c.owners("the host got nothing back", allBut(32, "h1"))
}

func TestAJoiningHostGetsIdlePartitionsAndLongAttemptsAreNotHeldUp(t *testing.T) {
	c := startCluster(t, "h1")
	m := c.hosts["h1"]
	started, release := m.pool.hold()
	defer release()
	running := c.ask("dspex.rpc.session.long", "one", `{"command":"hold","options":{"timeout":"1h"}}`)
	await(t, started, "the job did not start")
	c.join("h2")
	owners := c.owners("the joining host got nothing", allBut(32, "h1"))
	if o := owners[fmt.Sprintf("p.%d", affinity.Partition("long", 64))]; o != "h1" {
		t.Errorf("the busy partition went to %s", o)
	}
	// Now that it is to go all the same, it is left alone for as long as its attempt may last.
	m.refuseRelease(t, c.nc, affinity.Partition("long", 64))
	release()
	if r := <-running; !r.OK {
		t.Errorf("%+v", r)
	}
}

// refuseRelease requests a partition patiently and checks, by the order of messages, that it is not given back.
func (m *member) refuseRelease(t *testing.T, nc *nats.Conn, n int) {
	t.Helper()
	ask, err := json.Marshal(map[string]any{"partitions": map[string]uint64{fmt.Sprint(n): epochOf(t, nc, n)}, "patient": true})
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Publish("dspex.ctl.h1.release", ask); err != nil {
		t.Fatal(err)
	}
	before := epochOf(t, nc, n)
	for range 3 { // a host receives these after the request; giving back takes less than the three round trips
		if _, err := nc.Request("dspex.ctl.h1.beat", nil, 5*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if after := epochOf(t, nc, n); after != before {
		t.Errorf("given back: epoch %d, then %d", before, after)
	}
}

func epochOf(t *testing.T, nc *nats.Conn, n int) uint64 {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), "dspex_assign")
	if err != nil {
		t.Fatal(err)
	}
	e, err := kv.Get(t.Context(), fmt.Sprintf("p.%d", n))
	if err != nil {
		t.Fatal(err)
	}
	return e.Revision()
}
