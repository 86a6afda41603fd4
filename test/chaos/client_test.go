//go:build chaos

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dspex/dspex"
)

const (
	sessions  = 16 // of each tenant
	anonymous = 4  // writers without session, of each tenant
	// patient is how long a client waits for one answer before it sends the request again, with the same id.
	patient = 20 * time.Second
)

// client is the program of a tenant: its sessions append numbers, one after the other.
type client struct {
	t      *testing.T
	tenant string
	c      *dspex.Client
	hard   context.Context // ends every wait
	giveUp context.CancelFunc
	stop   chan struct{}
	wg     sync.WaitGroup
	done   atomic.Int64 // jobs

	mu      sync.Mutex
	jobs    []job
	changed []string // outcomes that were another one when they were read again
}

func (d *deployment) startClients(t *testing.T) []*client {
	return []*client{d.startClient(t, "default", "client"), d.startClient(t, "acme", "acme")}
}

func (d *deployment) startClient(t *testing.T, tenant, user string) *client {
	c := &client{t: t, tenant: tenant, c: d.connect(user), stop: make(chan struct{})}
	c.hard, c.giveUp = context.WithCancel(context.Background())
	t.Cleanup(c.giveUp)
	for n := range sessions + anonymous {
		session := fmt.Sprintf("s%d", n)
		if n >= sessions {
			session = ""
		}
		c.wg.Go(func() { c.write(n, session) })
	}
	return c
}

// write makes jobs until the end, half of the writers calls, half published jobs.
func (c *client) write(n int, session string) {
	var mine []job
	defer func() {
		c.mu.Lock()
		c.jobs = append(c.jobs, mine...)
		c.mu.Unlock()
	}()
	for try, x := 0, 0; ; try++ {
		select {
		case <-c.stop:
			return
		case <-time.After(rand.N(60 * time.Millisecond)):
		}
		j := job{tenant: c.tenant, session: session, id: fmt.Sprintf("w%d-%d", n, try), x: x, published: n%2 == 0}
		c.conclude(&j)
		mine = append(mine, j)
		c.done.Add(1)
		if c.hard.Err() != nil || !j.ended {
			return
		}
		if j.accepted {
			x++
		}
	}
}

// conclude queries until the job has an outcome, or was refused.
func (c *client) conclude(j *job) {
	for c.hard.Err() == nil {
		j.asked++
		ctx, cancel := context.WithTimeout(c.hard, patient)
		r, err := c.send(ctx, j)
		cancel()
		e, _ := errors.AsType[*dspex.Error](err)
		switch {
		case err == nil:
			j.accepted, j.ended = true, true
			j.list, j.reset, err = read(r)
			if err != nil {
				j.failure = err.Error()
			}
			return
		case e != nil && j.published && j.accepted && slices.Contains(refusals, e.Code): // no dispatcher reports how far it is
		case e != nil && (slices.Contains(refusals, e.Code) || e.Code == "deadline_exceeded" && !j.published): // a call's is our patience
			j.ended = true
			return
		case e == nil || !slices.Contains(unknown, e.Code):
			j.accepted, j.ended, j.failure = true, true, err.Error()
			return
		}
		select {
		case <-c.hard.Done():
		case <-time.After(max(e.RetryAfter, 50*time.Millisecond)):
		}
	}
}

var (
	// refusals are codes of jobs that were not accepted, or will not run: the next one has another id.
	refusals = []string{"overloaded", "checkout_timeout", "session_queue_full", "pool_not_available", "breaker_open"}
	// unknown are codes that leave open what came of a job.
	unknown = []string{dspex.CodeClientTimeout, "broker_unreachable", "outcome_pending", "shutting_down", "operation_timeout"}
)

func (c *client) send(ctx context.Context, j *job) (dspex.Reply, error) {
	args, id := dspex.Args{"x": j.x}, dspex.WithJobID(j.id)
	long, retries := dspex.WithTimeout(5*time.Minute), dspex.WithMaxRetries(20)
	ref := dspex.JobRef{Session: j.session, ID: j.id}
	switch {
	case j.published && j.accepted:
		return c.c.Wait(ctx, ref)
	case j.published:
		var err error
		if j.session == "" {
			_, err = c.c.SubmitAnonymous(ctx, dspex.LaneInteractive, "echo", args, id, long, retries)
		} else {
			_, err = c.c.Submit(ctx, j.session, "append", args, id, long, retries)
		}
		if err != nil {
			return dspex.Reply{}, err
		}
		j.accepted = true
		return c.c.Wait(ctx, ref)
	case j.session == "":
		return c.c.ExecuteAnonymous(ctx, "echo", args, id, long, retries)
	default:
		return c.c.Execute(ctx, j.session, "append", args, id, long, retries)
	}
}

// read takes an outcome apart.
func read(r dspex.Reply) (list []int, reset bool, err error) {
	var got struct {
		List []int
		X    int
	}
	err = r.Decode(&got)
	if got.List == nil {
		got.List = []int{got.X}
	}
	return got.List, r.SessionState == dspex.SessionReset, err
}

// end lets every writer finish its job, and gives up what does not end.
func (c *client) end() {
	close(c.stop)
	late := time.AfterFunc(patience, c.giveUp)
	c.wg.Wait()
	late.Stop()
}

func (c *client) history() []job { return slices.Clone(c.jobs) }

// readAgain fetches the outcome of every job that has one: it must be the one of before.
func (c *client) readAgain() {
	next, workers := make(chan job), sync.WaitGroup{}
	for range 16 {
		workers.Go(func() {
			for j := range next {
				if said := c.compare(j); said != "" {
					c.mu.Lock()
					c.changed = append(c.changed, said)
					c.mu.Unlock()
				}
			}
		})
	}
	for _, j := range c.jobs {
		if j.ended && j.accepted && j.failure == "" {
			next <- j
		}
	}
	close(next)
	workers.Wait()
}

func (c *client) compare(j job) string {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := c.c.Wait(ctx, dspex.JobRef{Session: j.session, ID: j.id})
	if err == nil {
		var list []int
		if list, _, err = read(r); err == nil && slices.Equal(list, j.list) {
			return ""
		}
		return fmt.Sprintf("tenant %s, session %q, job %s: the outcome was %s, and is %s", j.tenant, j.session, j.id, tail(j.list), tail(list))
	}
	return fmt.Sprintf("tenant %s, session %q, job %s: no outcome any more: %v", j.tenant, j.session, j.id, err)
}
