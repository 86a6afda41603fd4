package procs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dspex/dspex"
)

// writers store jobs without a pause and await every outcome later: none may be lost, and no id may be given out twice.
type writers struct {
	t    *testing.T
	c    *dspex.Client
	stop context.CancelFunc
	wg   sync.WaitGroup

	accepted atomic.Int64
	ids      sync.Map // id that the service counted -> session
}

func startWriters(t *testing.T, c *dspex.Client, sessions int) *writers {
	w := &writers{t: t, c: c}
	ctx, stop := context.WithCancel(t.Context())
	w.stop = stop
	for n := range sessions {
		w.wg.Go(func() { w.write(ctx, fmt.Sprintf("writer_%d", n)) })
	}
	return w
}

// write stores a session's jobs, a few ahead of those that have ended, and looks at each outcome.
func (w *writers) write(ctx context.Context, session string) {
	const ahead = 8
	var waiting []dspex.JobRef
	for turn := 0; ctx.Err() == nil || len(waiting) > 0; {
		if ctx.Err() == nil && len(waiting) < ahead {
			job, err := w.c.Submit(context.WithoutCancel(ctx), session, "append", dspex.Args{"x": turn + len(waiting)})
			if err != nil {
				w.t.Errorf("%s: %v", session, err)
				return
			}
			if other, twice := w.ids.LoadOrStore(job.Job.ID, session); twice {
				w.t.Errorf("%s: the id %s is one of %s, too", session, job.Job.ID, other)
			}
			w.accepted.Add(1)
			waiting = append(waiting, job.Job)
			continue
		}
		r, err := w.outcome(context.WithoutCancel(ctx), waiting[0])
		var got struct{ List []int }
		if err == nil {
			err = r.Decode(&got)
		}
		if err != nil || len(got.List) != turn+1 || got.List[turn] != turn {
			w.t.Errorf("%s, turn %d (%s): %s %v", session, turn, waiting[0], r.Result, err)
			return
		}
		waiting, turn = waiting[1:], turn+1
	}
}

// outcome requests a job's outcome, and requests it again where a dispatcher has died with the question.
func (w *writers) outcome(ctx context.Context, job dspex.JobRef) (r dspex.Reply, err error) {
	for end := time.Now().Add(patience); time.Now().Before(end); {
		bounded, cancel := context.WithTimeout(ctx, 5*time.Second)
		r, err = w.c.Wait(bounded, job)
		cancel()
		if err == nil || !errors.Is(err, dspex.ErrTimeout) && !errors.Is(err, dspex.ErrConnection) {
			return r, err
		}
	}
	return r, err
}

// awaitAccepted waits until n more jobs were accepted.
func (w *writers) awaitAccepted(n int64) {
	w.t.Helper()
	until := w.accepted.Load() + n
	eventually(w.t, "jobs are accepted", func(context.Context) error {
		if have := w.accepted.Load(); have < until && !w.t.Failed() {
			return fmt.Errorf("%d of %d", have, until)
		}
		return nil
	})
}

// repartition changes the number of partitions and waits until the change is over.
func repartition(t *testing.T, c *dspex.Client, n int) {
	t.Helper()
	began := time.Now()
	if _, err := c.Admin().SetPartitions(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	awaitPartitions(t, c, n)
	t.Logf("%d partitions are served after %v", n, time.Since(began).Round(10*time.Millisecond))
}

func awaitPartitions(t *testing.T, c *dspex.Client, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d partitions are served", n), func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second) // the process that got the request may have died
		defer cancel()
		now, err := c.Admin().Partitions(ctx)
		if err == nil && (now.Changing || now.Serving != n) {
			err = fmt.Errorf("%+v", now)
		}
		return err
	})
	eventually(t, fmt.Sprintf("%d partitions have owners", n), func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		hosts, err := c.Admin().Hosts(ctx)
		if err == nil && (hosts.Partitions != n || hosts.Unassigned > 0) {
			err = fmt.Errorf("%d of %d partitions are unassigned", hosts.Unassigned, hosts.Partitions)
		}
		return err
	})
}

func TestTheNumberOfPartitionsChangesUnderLoad(t *testing.T) {
	d := deploy(t)
	first := d.start("dispatcher", "d1")
	d.host("h1").awaitReady()
	d.host("h2").awaitReady()
	first.awaitReady()
	c := d.client()
	l := startLoad(t, c, 16) // calls and stored jobs without retries
	w := startWriters(t, c, 16)
	for _, n := range []int{16, 64} {
		w.awaitAccepted(200)
		repartition(t, c, n)
		w.awaitAccepted(200)
	}
	l.end()
	// The dispatcher dies in the middle of a change; another one goes on with it.
	d.start("dispatcher", "d2")
	if _, err := c.Admin().SetPartitions(t.Context(), 7); err != nil {
		t.Fatal(err)
	}
	first.signal(syscall.SIGKILL)
	awaitPartitions(t, c, 7)
	w.awaitAccepted(200)
	w.stop()
	w.wg.Wait()
	t.Logf("%d stored jobs, %d turns of calls", w.accepted.Load(), l.calls.Load())
}
