package procs

import (
	"context"
	"fmt"
	"iter"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/natstest"
)

// tally makes a batch whose sessions count: each job of one appends its turn to a list. Every fifth job has no session.
func tally(jobs, sessions int) iter.Seq2[dspex.BatchJob, error] {
	return func(yield func(dspex.BatchJob, error) bool) {
		turn := make([]int, sessions)
		for i := range jobs {
			j := dspex.BatchJob{Command: "echo", Args: dspex.Args{"n": i}, Options: map[string]any{"max_retries": 20}}
			if i%5 > 0 {
				s := i % sessions
				j.Session, j.Command, j.Args = fmt.Sprint("counts_", s), "append", dspex.Args{"x": turn[s]}
				turn[s]++
			}
			if !yield(j, nil) {
				return
			}
		}
	}
}

// TestABatchEndsWithOneOutcomeEachWhoeverDies kills client, dispatcher and hosts in the middle. A job that ran twice, was lost or came out of
// order shows in its session's list.
func TestABatchEndsWithOneOutcomeEachWhoeverDies(t *testing.T) {
	const n, sessions = 600, 4
	d := deploy(t)
	dispatcher := d.start("dispatcher", "d1")
	hosts := []*process{d.host("h1"), d.host("h2")}
	for _, p := range append(hosts, dispatcher) {
		p.awaitReady()
	}
	c := d.client()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()

	broken, stop := context.WithCancel(ctx) // a client that dies while it uploads
	if _, err := c.SubmitBatch(broken, "b", tally(n, sessions), dspex.BatchProgress(func(int) { stop() })); err == nil {
		t.Fatal("the upload was not cut off")
	}
	if _, err := c.SubmitBatch(ctx, "b", tally(n, sessions), dspex.BatchConcurrency(16)); err != nil {
		t.Fatal(err)
	}
	done := func(least int) { t.Helper(); awaitDone(ctx, t, c, least) }
	done(n / 8)
	dispatcher.signal(os.Kill)
	hosts[0].signal(os.Kill)
	_ = hosts[0].awaitEnd()
	d.start("dispatcher", "d2").awaitReady()
	done(n / 2)
	d.host("h1").awaitReady()
	hosts[1].signal(os.Kill)
	everyTurnOnce(ctx, t, c, n)
}

// awaitDone waits until that many jobs of the batch have ended. The broker may be away meanwhile.
func awaitDone(ctx context.Context, t *testing.T, c *dspex.Client, least int) {
	t.Helper()
	for {
		b, err := c.GetBatch(ctx, "b")
		if err == nil && b.Done() >= least {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("only %d of %d jobs have ended: %v", b.Done(), least, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// brokerProcess is a nats-server that can be killed: it keeps its port and its store.
type brokerProcess struct {
	t             *testing.T
	program, conf string
	address       string
	p             *process
}

func newBroker(t *testing.T) (b *brokerProcess, url string) {
	t.Helper()
	dir := t.TempDir()
	b = &brokerProcess{t: t, program: filepath.Join(dir, "nats-server"), conf: filepath.Join(dir, "nats.conf"), address: natstest.FreeAddress(t)}
	if out, err := exec.Command("go", "build", "-o", b.program, "github.com/nats-io/nats-server/v2").CombinedOutput(); err != nil {
		t.Fatalf("build nats-server: %v\n%s", err, out)
	}
	text := fmt.Sprintf("listen: %s\nping_interval: 2s\nping_max: 2\njetstream { store_dir: %q, sync_interval: always }\n", b.address, filepath.Join(dir, "data"))
	if err := os.WriteFile(b.conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b.start()
	return b, "nats://" + b.address
}

func (b *brokerProcess) start() {
	b.t.Helper()
	b.p = launch(b.t, "broker", exec.Command(b.program, "-c", b.conf))
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		conn, err := net.Dial("tcp", b.address)
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(end) {
			b.t.Fatalf("the broker does not listen: %v\n%s", err, b.p.said())
		}
	}
}

func (b *brokerProcess) kill() {
	b.t.Helper()
	b.p.signal(os.Kill)
	_ = b.p.awaitEnd()
}

// TestABatchEndsThoughTheBrokerIsKilledToo kills all of them in turn, the broker again and again.
func TestABatchEndsThoughTheBrokerIsKilledToo(t *testing.T) {
	const n, sessions = 1500, 6
	b, url := newBroker(t)
	d := &deployment{t: t, url: url}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	dispatcher := d.start("dispatcher", "d1")
	hosts := []*process{d.host("h1"), d.host("h2")}
	for _, p := range append(hosts, dispatcher) {
		p.awaitReady()
	}
	c := d.client()
	if _, err := c.SubmitBatch(ctx, "b", tally(n, sessions), dspex.BatchConcurrency(32), dspex.BatchProgress(func(jobs int) {
		if jobs == 640 { // in the middle of the upload
			b.kill()
			b.start()
		}
	})); err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		awaitDone(ctx, t, c, n*(round+1)/5)
		b.kill()
		switch round {
		case 0:
			dispatcher.signal(os.Kill)
			_ = dispatcher.awaitEnd()
		case 1:
			hosts[0].signal(os.Kill)
			_ = hosts[0].awaitEnd()
		}
		b.start()
		switch round {
		case 0:
			d.start("dispatcher", "d2").awaitReady()
		case 1:
			d.host("h1").awaitReady()
		}
	}
	everyTurnOnce(ctx, t, c, n)
}

// everyTurnOnce waits for the end of a batch of tally, and checks each result.
func everyTurnOnce(ctx context.Context, t *testing.T, c *dspex.Client, n int) {
	t.Helper()
	b, err := c.WaitBatch(ctx, "b")
	if err != nil {
		t.Fatal(err)
	}
	if b.Outcomes.Succeeded != n {
		t.Fatalf("the batch is %s", b.Raw)
	}
	lists, next := map[string][]int{}, 0
	for r, err := range c.BatchResults(ctx, "b", dspex.BatchQuery{}) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Index != next {
			t.Fatalf("result %d follows %d", r.Index, next-1)
		}
		next++
		if r.Job.Session == "" {
			continue
		}
		var got struct{ List []int }
		if err := r.Reply.Decode(&got); err != nil {
			t.Fatal(err)
		}
		list := append(lists[r.Job.Session], len(lists[r.Job.Session]))
		if !slices.Equal(got.List, list) {
			t.Fatalf("job %d of %s: the list is %v, want %v", r.Index, r.Job.Session, got.List, list)
		}
		lists[r.Job.Session] = list
	}
	if next != n {
		t.Fatalf("%d results, want %d", next, n)
	}
}
