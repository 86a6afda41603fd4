package dspex

import (
	"cmp"
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/contract"
)

// Client is a client of dspex on one NATS connection. It is safe for concurrent use.
type Client struct {
	nc     *nats.Conn
	js     func() (jetstream.JetStream, error)
	owned  bool
	prefix string // of every subject
	domain string // of JetStream, "" for any
	tenant string // that requests name, "" for one's own
	watch  watch  // of the connection, while a request waits long

	traceparent func(context.Context) string // nil: jobs belong to no span but their own
}

const (
	connectTimeout = 5 * time.Second // when the context of Connect has no deadline
	// reconnectWait is how long a request waits for a connection that is being recreated, within its own bound.
	reconnectWait = 5 * time.Second
)

// ConnectOption changes what Connect does.
type ConnectOption interface{ applyConnect(*connectConfig) }

// ClientOption changes how a client uses its connection. It is a ConnectOption too.
type ClientOption interface {
	ConnectOption
	applyClient(*Client)
}

type connectConfig struct {
	nats   []nats.Option
	client []ClientOption
}

type natsOptions []nats.Option

func (o natsOptions) applyConnect(c *connectConfig) { c.nats = append(c.nats, o...) }

// WithNATS passes options on to nats.go: credentials, TLS, handlers.
func WithNATS(options ...nats.Option) ConnectOption { return natsOptions(options) }

type clientOption func(*Client)

func (o clientOption) applyClient(c *Client)         { o(c) }
func (o clientOption) applyConnect(c *connectConfig) { c.client = append(c.client, o) }

// WithJetStreamDomain sets the JetStream domain in which jobs must be stored. On a leaf node a stream of the same subjects in the leaf's own
// domain would take them: Submit then fails with CodeWrongDomain.
func WithJetStreamDomain(domain string) ClientOption {
	return clientOption(func(c *Client) { c.domain = domain })
}

// WithPropagator has each job belong to a span of its caller: traceparent returns that of a context, "" for none. With OpenTelemetry:
//
//	dspex.WithPropagator(func(ctx context.Context) string {
//		carrier := propagation.MapCarrier{}
//		propagation.TraceContext{}.Inject(ctx, carrier)
//		return carrier["traceparent"]
//	})
//
// WithTraceparent of a job wins.
func WithPropagator(traceparent func(ctx context.Context) string) ClientOption {
	return clientOption(func(c *Client) { c.traceparent = traceparent })
}

// propagate gives the request the span of its caller. What is no traceparent is left out: no job fails for its trace.
func (c *Client) propagate(ctx context.Context, r *request) {
	if c.traceparent == nil || r.traceparent != "" {
		return
	}
	if text := c.traceparent(ctx); text != "" {
		if _, _, _, ok := contract.ParseTraceparent(text); ok {
			r.traceparent = text
		}
	}
}

// WithSubjectPrefix puts "prefix." before every subject that is published or requested, for accounts that import the subjects
// of dspex under a prefix. Reply subjects have none.
func WithSubjectPrefix(prefix string) ClientOption {
	return clientOption(func(c *Client) {
		if c.prefix = prefix; prefix != "" {
			c.prefix += "."
		}
	})
}

// Connect connects to the broker. While a lost connection is being recreated, requests wait up to 5 s and then fail: they are
// not buffered.
func Connect(ctx context.Context, url string, options ...ConnectOption) (*Client, error) {
	timeout := connectTimeout
	if end, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(end))
	}
	dial := &dialer{Dialer: net.Dialer{Timeout: timeout}, ctx: ctx}
	config := connectConfig{nats: []nats.Option{nats.Name("dspex client"), nats.Timeout(timeout), nats.SetCustomDialer(dial), nats.ReconnectBufSize(-1), nats.MaxReconnects(-1)}}
	for _, option := range options {
		option.applyConnect(&config)
	}
	stop := context.AfterFunc(ctx, dial.breakOff)
	nc, err := nats.Connect(url, config.nats...)
	if !stop() { // the context has ended
		if nc != nil {
			nc.Close()
		}
		return nil, unreachable(ctx, ctx.Err())
	}
	dial.connected()
	if err != nil {
		return nil, unreachable(ctx, err)
	}
	c := New(nc, config.client...)
	c.owned = true
	c.keep()
	return c, nil
}

// dialer opens the connections of a client. What is opened for Connect ends with its context.
type dialer struct {
	net.Dialer

	mu   sync.Mutex
	ctx  context.Context // of Connect
	open []net.Conn      // for Connect
}

// Dial implements nats.CustomDialer.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	d.mu.Lock()
	ctx := d.ctx
	d.mu.Unlock()
	c, err := d.DialContext(ctx, network, address)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err != nil:
		return nil, err
	case ctx.Err() != nil: // since it was opened
		c.Close()
		return nil, ctx.Err()
	case ctx != context.Background():
		d.open = append(d.open, c)
	}
	return c, nil
}

// breakOff ends the attempts to connect.
func (d *dialer) breakOff() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.open {
		c.Close()
	}
}

// connected has the connection, and those after it, outlive the context.
func (d *dialer) connected() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ctx, d.open = context.Background(), nil
}

// unreachable is the error of a connection that was not made.
func unreachable(ctx context.Context, err error) error {
	e := transport(ctx, err, JobRef{})
	switch e.Code {
	case CodeClientCancelled:
		return e
	case CodeClientTimeout:
		e.Category, e.Code, e.Message, e.Hint = ErrConnection, CodeBroker, "the broker did not answer in time", ""
	}
	if e.Hint == "" {
		e.Hint = "is NATS running there? `dspex dev` starts everything on this machine"
	}
	return e
}

// New makes a client of a connection that the caller opened and closes.
func New(nc *nats.Conn, options ...ClientOption) *Client {
	c := &Client{nc: nc, js: sync.OnceValues(func() (jetstream.JetStream, error) { return jetstream.New(nc) })}
	for _, option := range options {
		option.applyClient(c)
	}
	return c
}

// Close closes the connection that Connect made. Pending calls end with an error.
func (c *Client) Close() {
	if c.owned {
		c.watch.end()
		c.nc.Close()
	}
}

// Connected reports whether there is a connection to the broker now. A lost one is recreated without end.
func (c *Client) Connected() bool { return c.nc.IsConnected() }

// Execute runs a command in a session and waits for its reply. Jobs of one session run one at a time, in the order accepted.
// Without a deadline of its own the context gets one: what the job may take by its own options, and 5 s. A request or an answer that
// was lost with a broker is sent again if the job has an id (WithJobID); else the call waits until its bound.
func (c *Client) Execute(ctx context.Context, session, command string, args Args, opts ...CallOption) (Reply, error) {
	subject, err := sessionSubject(contract.RPCSession, session)
	if err != nil {
		return Reply{}, err
	}
	return c.call(ctx, subject, session, command, args, opts)
}

// ExecuteAnonymous runs a command without a session: no order, no state, on any free slot. A command of dspex whose argument
// session_id names a session, such as cleanup_session, runs in that one.
func (c *Client) ExecuteAnonymous(ctx context.Context, command string, args Args, opts ...CallOption) (Reply, error) {
	subject, session, err := anonymously(contract.RPCAnonymous, contract.RPCSession, command, args)
	if err != nil {
		return Reply{}, err
	}
	return c.call(ctx, subject, session, command, args, opts)
}

func (c *Client) call(ctx context.Context, subject, session, command string, args Args, opts []CallOption) (Reply, error) {
	r, err := newCall(session, command, args, opts)
	if err == nil {
		err = c.fit(ctx, r)
	}
	if err != nil {
		return Reply{}, err
	}
	c.propagate(ctx, r)
	ctx, cancel := bounded(ctx, r.total()+travelTime)
	defer cancel()
	m, err := c.request(ctx, r.callMessage(ctx, subject), r.job)
	if err != nil {
		return Reply{}, err
	}
	reply, err := readReply(m, r.job)
	return c.resolved(ctx, reply, err)
}

// request sends a message and returns the answer. Every failure is an *Error.
func (c *Client) request(ctx context.Context, m *nats.Msg, job JobRef) (*nats.Msg, error) {
	m.Subject = c.prefix + m.Subject
	c.nameTenant(m)
	var answer *nats.Msg
	maybe := false // an earlier try may have been accepted: a refusal of a later one decides nothing
	err := c.ride(ctx, job, func() (err error) {
		answer, err = c.exchange(ctx, m, job, &maybe)
		code, after := "", time.Duration(0)
		if err == nil && answer.Header.Get(contract.HeaderError) != "" {
			if _, failed := readReply(answer, job); asError(failed) != nil {
				code, after = asError(failed).Code, asError(failed).RetryAfter
			}
		}
		switch {
		case maybe && (errors.Is(err, nats.ErrNoResponders) || slices.Contains(notAccepted, code)):
			return undecided(after)
		case code == CodeBroker:
			maybe = true
			return errNotStored
		}
		maybe = maybe || err != nil && !errors.Is(err, nats.ErrNoResponders)
		return err
	})
	if _, open := errors.AsType[undecided](err); open {
		return nil, transport(ctx, cmp.Or(ctx.Err(), context.DeadlineExceeded), job)
	}
	if err != nil && !errors.Is(err, errNotStored) { // that answer has more details
		return nil, transport(ctx, err, job)
	}
	return answer, nil
}

// connected waits up to reconnectWait for a connection that is being recreated.
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

// asError returns err as an *Error, nil if it is none.
func asError(err error) *Error {
	e, _ := errors.AsType[*Error](err)
	return e
}
