package stream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// Ack is the broker's acknowledgement of a write.
type Ack struct {
	Sequence  uint64
	Duplicate bool
}

// Errors of a write that a caller branches on.
var (
	ErrWrongRevision = errors.New("wrong last revision")                   // 10071, 10164: the compare-and-set lost
	ErrSubjectFull   = errors.New("maximum messages per subject exceeded") // 10077 on a session's queue
	ErrStoreFull     = errors.New("store is full")
	ErrBusy          = errors.New("the broker has too much to store at this moment") // 10167: nothing was stored
	ErrRefused       = errors.New("broker refused the write")
	ErrUnknown       = errors.New("no acknowledgement: whether it was stored is unknown")
	ErrNoStream      = fmt.Errorf("%w: no stream takes the subject", ErrUnknown)
)

// AckTimeout bounds the wait for an acknowledgement.
const AckTimeout = 5 * time.Second

// Writer publishes to JetStream and hands each acknowledgement to a callback. One subscription serves all writes: at load
// this costs about half of what a future or a request for each write does.
type Writer struct {
	nc     *nats.Conn
	prefix string
	sub    *nats.Subscription

	mu      sync.Mutex
	next    uint64
	turn    uint64 // of sweep
	pending map[uint64]write
	running int // callbacks that run
	closed  bool
	stop    chan struct{}
	done    chan struct{}
}

type write struct {
	due  uint64 // turn of sweep
	done func(Ack, error)
}

// NewWriter subscribes to the acknowledgements. Close ends it.
func NewWriter(nc *nats.Conn) (*Writer, error) {
	w := &Writer{nc: nc, prefix: nc.NewInbox() + ".", pending: map[uint64]write{}, stop: make(chan struct{}), done: make(chan struct{})}
	sub, err := nc.Subscribe(w.prefix+"*", w.onAck)
	if err != nil {
		return nil, fmt.Errorf("subscribe to acknowledgements: %w", err)
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil { // bounded by the writes in flight
		return nil, err
	}
	w.sub = sub
	go w.sweep()
	return w, nil
}

// Drain waits until no write waits for its acknowledgement, and no callback runs that may publish another. That takes AckTimeout
// at most, if nothing is published meanwhile.
func (w *Writer) Drain() {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		w.mu.Lock()
		waiting := len(w.pending) + w.running
		w.mu.Unlock()
		if waiting == 0 {
			return
		}
		<-tick.C
	}
}

// Close fails the writes that wait and returns when no callback runs any more.
func (w *Writer) Close() {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return
	}
	w.closed = true
	w.mu.Unlock()
	close(w.stop)
	<-w.done
	_ = w.sub.Unsubscribe()
	w.expire(func(write) bool { return true })
}

// Publish sends m; done is called exactly once, from another goroutine or (when sending fails) from this one. It must not
// block. The message's Reply field is overwritten.
func (w *Writer) Publish(m *nats.Msg, done func(Ack, error)) {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		done(Ack{}, nats.ErrConnectionClosed)
		return
	}
	id := w.addLocked(done)
	w.mu.Unlock()
	m.Reply = w.prefix + strconv.FormatUint(id, 36)
	if err := w.nc.PublishMsg(m); err != nil {
		w.finish(id, Ack{}, fmt.Errorf("publish: %w", err))
	}
}

// Send is Publish for callers without the broker's types.
func (w *Writer) Send(subject string, header map[string][]string, data []byte, done func(Ack, error)) {
	w.Publish(&nats.Msg{Subject: subject, Header: header, Data: data}, done)
}

func (w *Writer) addLocked(done func(Ack, error)) (id uint64) {
	w.next++
	w.pending[w.next] = write{due: w.turn + sweeps, done: done}
	return w.next
}

// PublishSync sends m and waits for its acknowledgement, at most AckTimeout.
func (w *Writer) PublishSync(m *nats.Msg) (Ack, error) {
	type answer struct {
		ack Ack
		err error
	}
	c := make(chan answer, 1)
	w.Publish(m, func(a Ack, err error) { c <- answer{a, err} })
	r := <-c
	return r.ack, r.err
}

func (w *Writer) finish(id uint64, a Ack, err error) {
	w.mu.Lock()
	p, ok := w.pending[id]
	delete(w.pending, id)
	if ok {
		w.running++
	}
	w.mu.Unlock()
	if ok {
		p.done(a, err)
		w.over(1)
	}
}

func (w *Writer) over(callbacks int) {
	w.mu.Lock()
	w.running -= callbacks
	w.mu.Unlock()
}

func (w *Writer) onAck(m *nats.Msg) {
	id, err := strconv.ParseUint(m.Subject[len(w.prefix):], 36, 64)
	if err != nil {
		return
	}
	a, err := parseAck(m)
	w.finish(id, a, err)
}

// sweeps is the lifetime of a write, in looks at it: AckTimeout and up to a second more. They spare each write a look at the clock.
const sweeps = uint64(AckTimeout/sweepPause) + 1

const sweepPause = time.Second

// sweep ends the waits of writes whose acknowledgement never comes.
func (w *Writer) sweep() {
	defer close(w.done)
	t := time.NewTicker(sweepPause)
	defer t.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-t.C:
			w.mu.Lock()
			w.turn++
			turn := w.turn
			w.mu.Unlock()
			w.expire(func(p write) bool { return turn >= p.due })
		}
	}
}

func (w *Writer) expire(over func(write) bool) {
	var late []write
	w.mu.Lock()
	for id, p := range w.pending {
		if over(p) {
			late = append(late, p)
			delete(w.pending, id)
		}
	}
	w.running += len(late)
	w.mu.Unlock()
	for _, p := range late {
		p.done(Ack{}, ErrUnknown)
	}
	w.over(len(late))
}

var (
	errorKey = []byte(`"error"`)
	seqKey   = []byte(`"seq":`)
	dupKey   = []byte(`"duplicate"`)
)

func parseAck(m *nats.Msg) (Ack, error) {
	if len(m.Data) == 0 && m.Header.Get("Status") != "" {
		return Ack{}, fmt.Errorf("%w (status %s)", ErrNoStream, m.Header.Get("Status"))
	}
	if i := bytes.Index(m.Data, seqKey); i >= 0 && !bytes.Contains(m.Data, errorKey) && !bytes.Contains(m.Data, dupKey) {
		return Ack{Sequence: leadingUint(m.Data[i+len(seqKey):])}, nil
	}
	var a struct {
		Seq       uint64 `json:"seq"`
		Duplicate bool   `json:"duplicate"`
		Error     *struct {
			ErrCode     int    `json:"err_code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return Ack{}, fmt.Errorf("%w: acknowledgement is not JSON", ErrUnknown)
	}
	if a.Error == nil {
		return Ack{Sequence: a.Seq, Duplicate: a.Duplicate}, nil
	}
	return Ack{}, refusal(a.Error.ErrCode, a.Error.Description)
}

// refusal is the broker's error, as callers branch on it.
func refusal(code int, text string) error {
	switch code {
	case 10071, 10164:
		return ErrWrongRevision
	case 10077:
		if strings.Contains(text, "per subject") {
			return ErrSubjectFull
		}
		return fmt.Errorf("%w: %s", ErrStoreFull, text)
	case 10167, 10176, 10210: // 10176: a part of an atomic batch did not arrive; 10210: the stream has too many of them open
		return ErrBusy
	case 10023, 10047:
		return fmt.Errorf("%w: %s", ErrStoreFull, text)
	}
	return fmt.Errorf("%w: %s (%d)", ErrRefused, text, code)
}

func leadingUint(b []byte) (n uint64) {
	for _, c := range bytes.TrimLeft(b, " ") {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + uint64(c-'0')
	}
	return n
}
