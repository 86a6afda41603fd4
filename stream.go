package dspex

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/contract"
)

// Chunk is one piece of a streamed answer.
type Chunk struct {
	Job     JobRef
	Attempt int    // a new attempt starts over: what earlier attempts sent is void
	N       int    // counts from 0 in each attempt; a gap means that pieces were lost, the reply has all
	Field   string // the output that Text belongs to
	Text    string
	Call    int    // number of the model's call that Text belongs to: 0 for the first; those that run at the same time have different ones
	Status  string // what the program is doing, when it reports it; Field and Text are then empty
	Reply   *Reply // only in the last chunk: the whole answer
}

// Stream runs a command in a session and yields its answer piece by piece; the last chunk carries the whole reply. It ends
// after an error. Breaking out of the loop leaves the job running.
func (c *Client) Stream(ctx context.Context, session, command string, args Args, opts ...CallOption) iter.Seq2[Chunk, error] {
	subject, err := sessionSubject(contract.RPCSession, session)
	return c.stream(ctx, subject, session, err, command, args, opts)
}

// StreamAnonymous is Stream without session.
func (c *Client) StreamAnonymous(ctx context.Context, command string, args Args, opts ...CallOption) iter.Seq2[Chunk, error] {
	subject, session, err := anonymously(contract.RPCAnonymous, contract.RPCSession, command, args)
	return c.stream(ctx, subject, session, err, command, args, opts)
}

func (c *Client) stream(ctx context.Context, subject, session string, bad error, command string, args Args, opts []CallOption) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		if bad != nil {
			yield(Chunk{}, bad)
			return
		}
		r, err := newCall(session, command, args, append([]CallOption{option(func(r *request) { r.options["stream"] = true })}, opts...))
		if err == nil {
			err = c.fit(ctx, r)
		}
		if err != nil {
			yield(Chunk{}, err)
			return
		}
		c.propagate(ctx, r)
		ctx, cancel := bounded(ctx, r.total()+travelTime)
		defer cancel()
		s := streaming{c: c, request: r, subject: subject}
		defer s.close()
		if err := s.send(ctx); err != nil {
			yield(Chunk{}, transport(ctx, err, r.job))
			return
		}
		for {
			chunk, err := s.next(ctx)
			if chunk.Reply != nil {
				*chunk.Reply, err = c.resolved(ctx, *chunk.Reply, err)
			}
			if !yield(chunk, err) || err != nil || chunk.Reply != nil {
				return
			}
		}
	}
}

// streaming is a call whose answer comes in parts.
type streaming struct {
	c       *Client
	request *request
	subject string
	parts   *inbox
	again   bool // it was sent again: a refusal decides nothing
}

func (s *streaming) close() {
	if s.parts != nil {
		_ = s.parts.sub.Unsubscribe()
	}
}

func (s *streaming) send(ctx context.Context) (err error) {
	s.close()
	s.parts, err = s.c.open(ctx, s.request, s.subject)
	return err
}

// next waits for the next part. A broker that ends can lose the request or an answer without an error: a job with an id that is not known,
// or has ended, is sent again. Then the first outcome comes, or a run whose parts start over.
func (s *streaming) next(ctx context.Context) (Chunk, error) {
	for {
		chunk, err := s.wait(ctx)
		e := asError(err)
		switch {
		case errors.Is(err, errLost):
			s.again = true
		case !s.again || e == nil || !slices.Contains(notAccepted, e.Code):
			return chunk, err
		}
		for sent := false; !sent; {
			select {
			case <-ctx.Done():
				return Chunk{}, transport(ctx, ctx.Err(), s.request.job)
			case <-time.After(ridePause):
			}
			if err = s.send(ctx); s.c.nc.IsClosed() {
				return Chunk{}, transport(ctx, err, s.request.job)
			}
			sent = err == nil
		}
	}
}

// wait is next, and ends with errLost if nothing will come.
func (s *streaming) wait(ctx context.Context) (Chunk, error) {
	job := s.request.job
	long := time.AfterFunc(longWait, s.c.watch.begin)
	defer func() {
		if !long.Stop() {
			s.c.watch.leave()
		}
	}()
	if job.ID == "" {
		return next(ctx, s.parts, job)
	}
	try, giveUp := context.WithCancelCause(ctx)
	looked := make(chan struct{})
	looks := time.AfterFunc(firstLook, func() {
		defer close(looked)
		if s.c.awaitLoss(try, job) {
			giveUp(errLost)
		}
	})
	chunk, err := next(try, s.parts, job)
	giveUp(nil)
	if !looks.Stop() {
		<-looked
	}
	if err != nil && errors.Is(context.Cause(try), errLost) {
		return Chunk{}, errLost
	}
	return chunk, err
}

// unread bounds what has come of a streamed answer and was not read, in bytes. Pieces beyond it are dropped; the reply never is.
const unread = 4 << 20

// inbox keeps what comes to a streaming call until it is read.
type inbox struct {
	sub   *nats.Subscription
	ready chan struct{} // has a value when something has come, or nothing will

	mu      sync.Mutex
	waiting []*nats.Msg
	bytes   int
	closed  bool
}

// open sends the request with an inbox that takes more than one answer.
func (c *Client) open(ctx context.Context, r *request, subject string) (_ *inbox, err error) {
	if err := c.connected(ctx); err != nil {
		return nil, err
	}
	m := r.callMessage(ctx, c.prefix+subject)
	c.nameTenant(m)
	m.Reply = c.nc.NewInbox()
	in := &inbox{ready: make(chan struct{}, 1)}
	if in.sub, err = c.nc.Subscribe(m.Reply, in.take); err != nil {
		return nil, err
	}
	in.sub.SetClosedHandler(func(string) { in.close() })
	if err := c.nc.PublishMsg(m); err != nil {
		_ = in.sub.Unsubscribe()
		return nil, err
	}
	return in, nil
}

func (in *inbox) take(m *nats.Msg) {
	in.mu.Lock()
	if m.Header.Get(contract.HeaderPartial) == "" || in.bytes+m.Size() <= unread {
		in.waiting = append(in.waiting, m)
		in.bytes += m.Size()
	}
	in.mu.Unlock()
	in.signal()
}

func (in *inbox) close() {
	in.mu.Lock()
	in.closed = true
	in.mu.Unlock()
	in.signal()
}

func (in *inbox) signal() {
	select {
	case in.ready <- struct{}{}:
	default:
	}
}

func (in *inbox) read(ctx context.Context) (*nats.Msg, error) {
	for {
		if m, closed := in.first(); m != nil {
			return m, nil
		} else if closed {
			return nil, nats.ErrConnectionClosed
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-in.ready:
		}
	}
}

func (in *inbox) first() (m *nats.Msg, closed bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.waiting) == 0 {
		return nil, in.closed
	}
	m, in.waiting[0] = in.waiting[0], nil
	in.waiting = in.waiting[1:]
	in.bytes -= m.Size()
	return m, false
}

func next(ctx context.Context, in *inbox, job JobRef) (Chunk, error) {
	m, err := in.read(ctx)
	if err == nil && len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		err = nats.ErrNoResponders
	}
	if err != nil {
		return Chunk{}, transport(ctx, err, job)
	}
	chunk := Chunk{Job: JobRef{job.Session, m.Header.Get(contract.HeaderJob)}, Attempt: headerInt(m, contract.HeaderAttempt)}
	if m.Header.Get(contract.HeaderPartial) == "" {
		reply, err := readReply(m, job)
		if err != nil {
			return chunk, err
		}
		chunk.Job, chunk.Attempt, chunk.Reply = reply.Job, reply.Attempt, &reply
		return chunk, nil
	}
	var part struct {
		Field, Chunk, Status string
		Call                 int
	}
	if err := json.Unmarshal(m.Data, &part); err != nil {
		return chunk, badReply("a part of the answer is not the expected JSON: %v", err)
	}
	chunk.N, chunk.Call, chunk.Field, chunk.Text, chunk.Status = headerInt(m, contract.HeaderPartial), part.Call, part.Field, part.Chunk, part.Status
	return chunk, nil
}
