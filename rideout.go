package dspex

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/quorum"
)

// errNotStored is the answer of a dispatcher that could not store the job.
var errNotStored = errors.New("the broker did not store the job")

// undecided is the refusal of a try after one that may have been accepted: the time after which to come back, 0 if it has none.
type undecided time.Duration

func (undecided) Error() string { return "refused, but an earlier try may have been accepted" }

// notAccepted are the codes of calls of which nothing was accepted.
var notAccepted = []string{contract.CodeOverloaded, contract.CodeQueueFull, contract.CodePoolUnavailable, contract.CodeStoreFull, contract.CodeQuota}

// errLost ends the wait for an answer that will not come.
var errLost = errors.New("the request or its answer was lost")

const (
	// ridePause is the wait before a request is sent again: an election takes seconds.
	ridePause = 250 * time.Millisecond
	// longWait is how long a request waits before the connection is watched: most have their answer by then.
	longWait = time.Second
	// nobodyThere is how long no dispatcher may be found: a cut-off broker is left sooner.
	nobodyThere = 12 * time.Second
	// noneHadRoom is how long none may be found on a single broker: while more comes at once than they can read, the broker answers the
	// same as when there is none.
	noneHadRoom = 3 * time.Second
	// watchPause is the time between two looks at a connection whose requests wait long. Jobs may take minutes.
	watchPause = time.Second
	// firstLook is how long a request waits before its job is looked up; each further look comes after twice the time, up to lastLook.
	firstLook = 2 * time.Second
	lastLook  = 30 * time.Second
	// secondLook confirms a first one that found no job: it may be on its way.
	secondLook = time.Second
)

// ride sends, and sends again while the connection is lost or the brokers of a cluster elect a leader, until ctx ends: the job keeps
// its id, so it runs once. A job without an id of its own is sent once; again only if nobody was there to take it.
func (c *Client) ride(ctx context.Context, job JobRef, send func() error) error {
	began, rides := time.Now(), false
	for {
		if err := c.connected(ctx); err != nil {
			return err
		}
		long := time.AfterFunc(longWait, c.watch.begin)
		err := send()
		if !long.Stop() {
			c.watch.leave()
		}
		if err == nil || ctx.Err() != nil || !c.passes(err, job.ID != "", time.Since(began)) {
			return err
		}
		if !rides {
			rides = true
			c.watch.begin()
			defer c.watch.leave()
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pauseAfter(err)):
		}
	}
}

// pauseAfter is the wait before the next try.
func pauseAfter(err error) time.Duration {
	refused, _ := errors.AsType[undecided](err)
	return max(ridePause, time.Duration(refused))
}

// passes reports whether an error, so long after the first try, is one of those that are over soon. What is known by an id may be sent
// again though it may have come.
func (c *Client) passes(err error, known bool, after time.Duration) bool {
	if _, open := errors.AsType[undecided](err); open {
		return !c.nc.IsClosed()
	}
	several := len(c.nc.Servers()) > 1
	switch {
	case c.nc.IsClosed():
		return false
	case errors.Is(err, nats.ErrNoResponders) && known && several: // this broker may be cut off, and the dispatchers have left it
		return after < nobodyThere
	case errors.Is(err, nats.ErrNoResponders):
		return after < noneHadRoom
	case !known:
		return false
	case errors.Is(err, nats.ErrDisconnected), errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrConnectionReconnecting):
		return true // while it was sent, or while it waited for its answer
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, errNotStored):
		return several
	}
	return false
}

// watch keeps a connection on a broker that is not cut off, while requests wait for long. The zero value watches nothing.
type watch struct {
	keeper *quorum.Keeper

	mu      sync.Mutex
	waiting int
	stop    context.CancelFunc
	running sync.WaitGroup
	ended   bool
}

// exchange sends a request and waits for its answer. A broker that ends can lose either of them without an error. So
// while there is no answer to a job with an id it is looked up: one that is not known, or has ended, is sent again.
// Then maybe is set.
func (c *Client) exchange(ctx context.Context, m *nats.Msg, job JobRef, maybe *bool) (*nats.Msg, error) {
	if job.ID == "" {
		return c.nc.RequestMsgWithContext(ctx, m)
	}
	for {
		try, giveUp := context.WithCancelCause(ctx)
		looked := make(chan struct{})
		looks := time.AfterFunc(firstLook, func() {
			defer close(looked)
			if c.awaitLoss(try, job) {
				giveUp(errLost)
			}
		})
		answer, err := c.nc.RequestMsgWithContext(try, m)
		giveUp(nil)
		if !looks.Stop() {
			<-looked
		}
		if err == nil || !errors.Is(context.Cause(try), errLost) {
			return answer, err
		}
		*maybe = true
	}
}

// awaitLoss returns true once two looks in a row found no job that could still be answered, or false when ctx ends.
func (c *Client) awaitLoss(ctx context.Context, job JobRef) bool {
	for wait, before := firstLook, false; ; {
		found, err := c.lookUp(ctx, job, 0)
		e := asError(err)
		lost := e != nil && e.Code == contract.CodeJobUnknown || err == nil && found.Status.Final()
		if lost && before {
			return true
		}
		pause := wait
		if before = lost; lost {
			pause = secondLook
		} else {
			wait = min(2*wait, lastLook)
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
		}
	}
}

// keep has the client's own connection watched. A connection of the caller's is the caller's to move.
func (c *Client) keep() {
	subject := c.prefix + contract.RPCJobsGet
	served := func(ctx context.Context, nc *nats.Conn) error {
		_, err := nc.RequestWithContext(ctx, subject, nil) // refused at once, by any dispatcher
		return err
	}
	c.watch.keeper = quorum.New(c.nc, served, slog.New(slog.DiscardHandler))
	c.watch.keeper.Pause = watchPause
}

func (w *watch) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting++; w.waiting != 1 || w.keeper == nil || w.ended {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	w.running.Go(func() { w.keeper.Run(ctx) })
}

func (w *watch) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting--; w.waiting == 0 && w.stop != nil {
		w.stop()
		w.stop = nil
	}
}

// end stops watching permanently.
func (w *watch) end() {
	w.mu.Lock()
	w.ended = true
	if w.stop != nil {
		w.stop()
		w.stop = nil
	}
	w.mu.Unlock()
	w.running.Wait()
}
