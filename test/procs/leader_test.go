package procs

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// published keeps sessions busy with stored jobs that may start only once; no dispatcher is needed for them.
type published struct {
	t        *testing.T
	c        *dspex.Client
	ctx      context.Context
	stop     context.CancelFunc
	wg       sync.WaitGroup
	mu       sync.Mutex
	receipts map[string][]dspex.JobRef // session -> jobs
}

func publishInto(t *testing.T, c *dspex.Client, sessions int, every time.Duration, args dspex.Args) *published {
	l := &published{t: t, c: c, receipts: map[string][]dspex.JobRef{}}
	l.ctx, l.stop = context.WithCancel(t.Context())
	for n := range sessions {
		l.wg.Go(func() { l.submit(fmt.Sprint("published_", n), every, args) })
	}
	return l
}

func (l *published) submit(session string, every time.Duration, args dspex.Args) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for l.ctx.Err() == nil {
		r, err := l.c.Submit(context.WithoutCancel(l.ctx), session, "sleep", args, dspex.WithMaxRetries(0))
		if err != nil {
			l.t.Errorf("%s: %v", session, err)
			return
		}
		l.mu.Lock()
		l.receipts[session] = append(l.receipts[session], r.Job)
		l.mu.Unlock()
		select {
		case <-l.ctx.Done():
		case <-tick.C:
		}
	}
}

// end awaits all outcomes; none may be a failure.
func (l *published) end() (total int) {
	l.t.Helper()
	l.stop()
	l.wg.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.t.Context()), patience)
	defer cancel()
	for _, list := range l.receipts {
		for _, job := range list {
			if _, err := l.c.Wait(ctx, job); err != nil {
				l.t.Errorf("%v: %v", job, err)
			}
			total++
		}
	}
	return total
}

const partitions = 64 // by default

// epochs are the revisions of all assignments: a partition that was moved, or taken again, has another one.
func epochs(t *testing.T, d *deployment) map[string]uint64 {
	t.Helper()
	nc, err := nats.Connect(d.url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), stream.Assign)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]uint64{}
	for n := range partitions {
		e, err := kv.Get(t.Context(), jobs.AssignmentKey(n))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Key()] = e.Revision()
	}
	return all
}

// awaitHeard waits until the dispatcher leads, has received heartbeats of all hosts, and each has its share.
func awaitHeard(t *testing.T, c *dspex.Client, leader string, hosts int) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last dspex.Hosts
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		list, err := c.Admin().Hosts(t.Context())
		if err != nil {
			continue // the dispatcher starts
		}
		serving := 0
		for _, h := range list.Hosts {
			if h.State == dspex.HostServing && h.Partitions >= partitions/hosts {
				serving++
			}
		}
		if last = list; list.Leader == leader && serving == hosts {
			return
		}
	}
	t.Fatalf("%s does not hear all hosts: %s", leader, last.Raw)
}

func TestTenRestartsOfTheLeadingDispatcherMoveNothingAndFailNoJob(t *testing.T) {
	d := deploy(t)
	leader := d.start("dispatcher", "d0")
	for n := range 3 {
		d.host(fmt.Sprint("h", n)).awaitReady()
	}
	c := d.client()
	awaitHeard(t, c, "d0", 3)
	before := epochs(t, d)
	l := publishInto(t, c, 48, 300*time.Millisecond, dspex.Args{"ms": 250})
	for n := 1; n <= 10; n++ {
		leader.stop()
		name := fmt.Sprint("d", n)
		leader = d.start("dispatcher", name).awaitReady()
		awaitHeard(t, c, name, 3)
	}
	moved := 0
	for key, epoch := range epochs(t, d) {
		if before[key] != epoch {
			moved++
		}
	}
	if total := l.end(); moved > 0 || t.Failed() {
		t.Errorf("%d of %d partitions moved, %d jobs", moved, len(before), total)
	} else {
		t.Logf("10 restarts, %d jobs, nothing moved", total)
	}
}
