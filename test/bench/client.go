//go:build linux

package main

import (
	"cmp"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
	"github.com/dspex/dspex/test/bench/agent"
)

// client loads the whole system, as a client of any language does.
type client struct {
	nc      *nats.Conn
	w       *stream.Writer
	replies *replies
	behind  bool // an account: replies to published jobs come by a subject that is imported
}

func playClient(url, inbox string) error {
	var options []nats.Option
	if inbox != "" {
		options = append(options, nats.CustomInboxPrefix(inbox))
	}
	nc, err := nats.Connect(url, options...)
	if err != nil {
		return err
	}
	defer nc.Close()
	c := &client{nc: nc, behind: inbox != ""}
	if c.w, err = stream.NewWriter(nc); err != nil {
		return err
	}
	defer c.w.Close()
	if c.replies, err = newReplies(nc, false); err != nil {
		return err
	}
	fmt.Println("ready")
	return agent.Obey(c.do)
}

func (c *client) do(o order) (answer, error) {
	switch o.Do {
	case "call":
		return agent.Window(o, c.call(o))
	case "batch":
		return c.batch(o)
	case "mixed":
		return agent.Window(o, c.mixed(o))
	}
	return answer{}, fmt.Errorf("unknown order %q", o.Do)
}

// call sends requests through the RPC endpoint, each to another session.
func (c *client) call(o order) agent.Operation {
	body := []byte(cmp.Or(o.Body, string(agent.CallBody)))
	return func(lane, n int, done func(error)) {
		id := agent.Session(n)
		if o.Fresh != "" {
			id = o.Fresh + strconv.Itoa(n)
		}
		c.replies.wait[lane] = func(m *nats.Msg) { done(failure(m)) }
		m := &nats.Msg{Subject: jobs.RPCSession + id, Reply: c.replies.prefix + strconv.Itoa(lane), Data: body}
		if o.Named {
			m.Header = nats.Header{jobs.HeaderJob: {nuid.Next()}}
		}
		if err := c.nc.PublishMsg(m); err != nil {
			done(err)
		}
	}
}

// batch publishes o.Count jobs with at most o.Window unacknowledged, and waits for all replies. Latencies are from the
// publish to the reply.
func (c *client) batch(o order) (answer, error) {
	prefix := c.nc.NewInbox() + "."
	if c.behind {
		prefix = "dspex.reply." + nuid.Next() + "."
	}
	sent := make([]time.Time, o.Count)
	latencies := make([]float64, 0, o.Count)
	ended := make(chan error, 1)
	sub, err := c.nc.Subscribe(prefix+"*", func(m *nats.Msg) {
		n, err := strconv.Atoi(m.Subject[len(prefix):])
		if err == nil {
			err = failure(m)
		}
		if err != nil {
			select {
			case ended <- err:
			default:
			}
			return
		}
		latencies = append(latencies, float64(time.Since(sent[n]).Nanoseconds())/1000)
		if len(latencies) == o.Count {
			ended <- nil
		}
	})
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return answer{}, err
	}
	began := time.Now()
	room := make(chan struct{}, o.Window)
	var mu sync.Mutex
	var refused error
	for n := range o.Count {
		room <- struct{}{}
		sent[n] = time.Now()
		m := &nats.Msg{Subject: jobs.SessionRef{Tenant: jobs.DefaultTenant, ID: agent.Session(n)}.PublishSubject(""), Data: agent.CallBody,
			Header: nats.Header{jobs.HeaderReplyTo: {prefix + strconv.Itoa(n)}}}
		c.w.Publish(m, func(_ stream.Ack, err error) {
			if err != nil {
				mu.Lock()
				refused = err
				mu.Unlock()
			}
			<-room
		})
	}
	mu.Lock()
	err = refused
	mu.Unlock()
	if err != nil {
		return answer{}, err
	}
	select {
	case err = <-ended:
	case <-time.After(orderTimeout / 2):
		err = fmt.Errorf("only some of the replies came")
	}
	return agent.Summary(time.Since(began), latencies), err
}

// mixed makes calls that end in every way: answered, refused, cancelled, and left by a client that does not wait.
func (c *client) mixed(o order) agent.Operation {
	answered := c.call(o)
	return func(lane, n int, done func(error)) {
		switch n % 4 {
		case 0:
			c.replies.wait[lane] = func(*nats.Msg) { done(nil) } // refused
			if err := c.nc.PublishRequest(jobs.RPCSession+agent.Session(n), c.replies.prefix+strconv.Itoa(lane), []byte("{")); err != nil {
				done(err)
			}
			return
		case 1: // nobody receives its answer
			if err := c.nc.PublishRequest(jobs.RPCSession+agent.Session(n), c.nc.NewInbox(), agent.CallBody); err != nil {
				done(err)
				return
			}
		case 2:
			if err := c.cancelled(agent.Session(n), strconv.Itoa(n)+"-"+c.nc.NewInbox()[len("_INBOX.client."):]); err != nil {
				done(err)
				return
			}
		}
		answered(lane, n, done)
	}
}
