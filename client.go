package dspex

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Client talks to dspex through one NATS connection. It is safe for use by many goroutines at once.
type Client struct {
	nc    *nats.Conn
	js    func() (jetstream.JetStream, error)
	owned bool
}

const (
	connectTimeout = 5 * time.Second // when the context of Connect has no deadline
	// reconnectWait is how long a request waits for a connection that is being made again, within its own bound.
	reconnectWait = 5 * time.Second
)

// Connect connects to the broker; options are those of nats.go. While a lost connection is being made again, requests wait a
// little and then fail, instead of being sent when nobody waits for them any more.
func Connect(ctx context.Context, url string, options ...nats.Option) (*Client, error) {
	timeout := connectTimeout
	if end, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(end))
	}
	options = append([]nats.Option{nats.Name("dspex client"), nats.Timeout(timeout), nats.ReconnectBufSize(-1), nats.MaxReconnects(-1)}, options...)
	type result struct {
		nc  *nats.Conn
		err error
	}
	connected := make(chan result, 1)
	go func() { // ends within timeout
		nc, err := nats.Connect(url, options...)
		connected <- result{nc, err}
	}()
	select {
	case r := <-connected:
		if r.err != nil {
			return nil, unreachable(ctx, r.err)
		}
		c := New(r.nc)
		c.owned = true
		return c, nil
	case <-ctx.Done():
		go func() {
			if r := <-connected; r.nc != nil {
				r.nc.Close()
			}
		}()
		return nil, unreachable(ctx, ctx.Err())
	}
}

func unreachable(ctx context.Context, err error) error {
	err = transport(ctx, err, "")
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	if e.Code == CodeClientTimeout {
		e.Category, e.Code, e.Message, e.Hint = ErrConnection, CodeBroker, "the broker did not answer in time", ""
	}
	if e.Hint == "" {
		e.Hint = "is NATS running there? `dspex dev` starts everything on this machine"
	}
	return err
}

// New makes a client of a connection that the caller opened and closes.
func New(nc *nats.Conn) *Client {
	return &Client{nc: nc, js: sync.OnceValues(func() (jetstream.JetStream, error) { return jetstream.New(nc) })}
}

// Close closes the connection that Connect made. Calls that wait end with an error.
func (c *Client) Close() {
	if c.owned {
		c.nc.Close()
	}
}

// Execute runs a command in a session and waits for its reply. Jobs of one session run one at a time, in the order accepted.
// A failure is an *Error. A context without deadline gets one: what the job may take by its own options, and 5 s.
func (c *Client) Execute(ctx context.Context, session, command string, args Args, opts ...Option) (Reply, error) {
	subject, err := sessionSubject(doorSession, session)
	if err != nil {
		return Reply{}, err
	}
	return c.call(ctx, subject, command, args, opts)
}

// ExecuteAnonymous runs a command without session: no order, no state, on any free slot.
func (c *Client) ExecuteAnonymous(ctx context.Context, command string, args Args, opts ...Option) (Reply, error) {
	return c.call(ctx, doorAnonymous, command, args, opts)
}

func (c *Client) call(ctx context.Context, subject, command string, args Args, opts []Option) (Reply, error) {
	r, err := newRequest(command, args, opts)
	if err != nil {
		return Reply{}, err
	}
	if r.replyTo != "" {
		return Reply{}, badOption("", "Submit", "WithReplyTo has no effect on a call")
	}
	ctx, cancel := bounded(ctx, r.total()+settling)
	defer cancel()
	m, err := c.request(ctx, r.callMessage(ctx, subject), r.job)
	if err != nil {
		return Reply{}, err
	}
	return readReply(m)
}

func (c *Client) request(ctx context.Context, m *nats.Msg, job string) (*nats.Msg, error) {
	if err := c.connected(ctx); err != nil {
		return nil, transport(ctx, err, job)
	}
	answer, err := c.nc.RequestMsgWithContext(ctx, m)
	if err != nil {
		return nil, transport(ctx, err, job)
	}
	return answer, nil
}

// connected waits a little for a connection that is being made again.
func (c *Client) connected(ctx context.Context) error {
	if c.nc.IsConnected() {
		return nil
	}
	changed := c.nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer c.nc.RemoveStatusListener(changed)
	wait := time.NewTimer(reconnectWait)
	defer wait.Stop()
	for {
		switch {
		case c.nc.IsConnected():
			return nil
		case c.nc.IsClosed():
			return nats.ErrConnectionClosed
		}
		select {
		case <-changed:
		case <-wait.C:
			return nats.ErrDisconnected
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Receipt is the proof that a job was accepted.
type Receipt struct {
	Job       string // the chosen id, else q<sequence>
	Sequence  uint64 // in the stream
	Duplicate bool   // a job of this id was accepted in the last 10 minutes: this one, whatever is in it, is not run
}

// Submit stores a job of a session and returns at once; its outcome is fetched with Wait or Job.
func (c *Client) Submit(ctx context.Context, session, command string, args Args, opts ...Option) (Receipt, error) {
	subject, err := sessionSubject(subjectSession, session)
	if err != nil {
		return Receipt{}, err
	}
	return c.submit(ctx, subject, session, command, args, opts)
}

// Lanes of anonymous jobs.
const (
	Interactive = "interactive" // somebody waits
	Batch       = "batch"       // leaves at least one slot of each host free for the others
)

// SubmitAnonymous stores a job without session in a lane.
func (c *Client) SubmitAnonymous(ctx context.Context, lane, command string, args Args, opts ...Option) (Receipt, error) {
	if lane != Interactive && lane != Batch {
		return Receipt{}, badOption("lane", "interactive or batch", "unknown lane %q", lane)
	}
	return c.submit(ctx, subjectAnonymous+lane, "anonymous", command, args, opts)
}

func (c *Client) submit(ctx context.Context, subject, scope, command string, args Args, opts []Option) (Receipt, error) {
	r, err := newRequest(command, args, opts)
	if err != nil {
		return Receipt{}, err
	}
	m := r.message(subject)
	if r.job != "" {
		// The broker's window of duplicates is one for the whole stream: the id needs its session.
		m.Header.Set(nats.MsgIdHdr, scope+"."+r.job)
	}
	if r.replyTo != "" {
		m.Header.Set(headerReplyTo, r.replyTo)
	}
	ctx, cancel := bounded(ctx, settling)
	defer cancel()
	if err := c.connected(ctx); err != nil {
		return Receipt{}, transport(ctx, err, r.job)
	}
	js, err := c.js()
	if err != nil {
		return Receipt{}, fmt.Errorf("using JetStream: %w", err)
	}
	ack, err := js.PublishMsg(ctx, m)
	if err != nil {
		return Receipt{}, notStored(ctx, err, r.job)
	}
	if r.job == "" {
		r.job = "q" + strconv.FormatUint(ack.Sequence, 10)
	}
	return Receipt{Job: r.job, Sequence: ack.Sequence, Duplicate: ack.Duplicate}, nil
}

// notStored tells a full stream from a broker that was not reached.
func notStored(ctx context.Context, err error, job string) error {
	var refused *jetstream.APIError
	if !errors.As(err, &refused) {
		return transport(ctx, err, job)
	}
	e := &Error{Category: ErrResource, Code: CodeStoreFull, Message: "the broker did not store the job: " + refused.Description, Retryable: true, Job: job, cause: err}
	if strings.Contains(refused.Description, "per subject") {
		e.Code, e.Hint = CodeQueueFull, "the session has as many waiting jobs as it may have: wait for some of them"
	}
	return e
}
