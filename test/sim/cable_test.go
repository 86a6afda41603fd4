package sim

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// link is one direction of a cable. Whoever cuts it mends it: it carries again when all have.
type link struct {
	mu   sync.Mutex
	cuts int
	held chan struct{} // nil while bytes pass
}

func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cuts++; l.held == nil {
		l.held = make(chan struct{})
	}
}

func (l *link) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cuts--; l.cuts == 0 {
		close(l.held)
		l.held = nil
	}
}

func (l *link) gate() chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held
}

// cable is the network between one process and the broker; nats.InProcessServer takes it.
type cable struct {
	srv     *atomic.Pointer[server.Server] // nil while the broker is down
	up      link                           // to the broker
	down    link                           // to the process
	latency time.Duration                  // most that bytes are under way; each connection has its own, in each direction
	watch   func(publication) verdict      // looks at what the process publishes; nil: nobody looks
	arrives func(publication) verdict      // looks at what comes to the process
	servers *servers                       // of the broker
	stamps  func(message) []byte           // what comes to the process as the broker's clock would have it; nil: as it is

	mu    sync.Mutex
	rng   *rand.Rand
	dead  bool
	bad   int // times that it was cut or dropped
	lines []*line
}

// verdict is what becomes of a publication on its way to the broker.
type verdict struct {
	before, after func() // run around the delivery; they may cut or kill the cable
	lost          bool   // instead of the delivery
	instead       []byte // of its bytes; nil: as it is
}

var errUnreachable = errors.New("network is unreachable")

// InProcessConn dials the broker. It never waits: nats.go holds a lock while it dials.
func (c *cable) InProcessConn() (net.Conn, error) { return c.dial(-1) }

// dial connects to one of the servers; -1: to one that is never cut off from the others.
func (c *cable) dial(server int) (net.Conn, error) {
	s := c.srv.Load()
	if s == nil || c.up.gate() != nil || c.down.gate() != nil || c.isDead() {
		return nil, errUnreachable
	}
	far, err := s.InProcessConn()
	if err != nil {
		return nil, err
	}
	near, mid := net.Pipe()
	l := &line{c: c, server: server, near: near, mid: mid, far: far, reset: make(chan struct{})}
	c.mu.Lock()
	c.lines = append(c.lines, l)
	up, down := c.draw(), c.draw()
	c.mu.Unlock()
	go l.carry(far, mid, &c.up, up, c.watch)
	go l.carry(mid, far, &c.down, down, c.arrives)
	return near, nil
}

// draw is constant for a connection: what the broker sends at one moment arrives at one moment. nats.go waits for an answer
// with a lock held that the message before it needs, and a goroutine that waits for a lock stops fake time.
func (c *cable) draw() time.Duration {
	if c.latency == 0 {
		return 0
	}
	return time.Duration(c.rng.Int64N(int64(c.latency)))
}

func (c *cable) isDead() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead
}

func (c *cable) isCut() bool { return c.up.gate() != nil || c.down.gate() != nil }

// troubles counts what has happened to the cable.
func (c *cable) troubles() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bad
}

func (c *cable) trouble() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bad++
}

// partition cuts one or both directions.
func (c *cable) partition(up, down bool) {
	c.trouble()
	if up {
		c.up.cut()
	}
	if down {
		c.down.cut()
	}
}

// heal ends a partition of the same directions.
func (c *cable) heal(up, down bool) {
	if up {
		c.up.mend()
	}
	if down {
		c.down.mend()
	}
}

// cutOff is the end of the process at one end: what is still under way from it is lost, the broker sees the connection close.
func (c *cable) cutOff() {
	c.mu.Lock()
	c.dead = true
	c.mu.Unlock()
	c.drop()
}

// drop resets the connections: the bytes under way are lost in both directions.
func (c *cable) drop() {
	c.mu.Lock()
	lines := c.lines
	c.lines = nil
	c.bad++
	c.mu.Unlock()
	for _, l := range lines {
		l.drop()
	}
}

// line is one connection through a cable.
type line struct {
	c              *cable
	server         int // -1: none of those that are cut off
	near, mid, far net.Conn
	handshakes     atomic.Int32 // 2 after INFO and PONG
	once           sync.Once
	reset          chan struct{} // closed: nothing is carried any more
}

func (l *line) drop() {
	l.once.Do(func() {
		close(l.reset)
		_ = l.far.Close()
		_ = l.mid.Close()
	})
}

type segment struct {
	due   time.Time
	bytes []byte
}

// segments bounds what is under way in one direction; a blocked write may hold a lock of nats.go.
const segments = 4096

// carry takes bytes from src to dst. It delays them, and the close behind them, while the link is cut, as a kernel would.
func (l *line) carry(dst, src net.Conn, on *link, latency time.Duration, watch func(publication) verdict) {
	sent := make(chan segment, segments)
	go l.read(src, sent, latency)
	var split splitter
	for seg := range sent {
		if !l.pass(on, seg.due) {
			break
		}
		if watch == nil {
			if _, err := dst.Write(seg.bytes); err != nil {
				break
			}
		} else if !l.deliver(dst, on, split.add(seg.bytes), watch) {
			break
		}
		if on == &l.c.down {
			l.handshakes.Add(1)
		}
	}
	go func() { // the reader must never wait
		for range sent {
		}
	}()
	if l.handshakes.Load() >= 2 {
		l.pass(on, time.Time{})
	}
	_ = dst.Close()
}

func (l *line) read(src net.Conn, sent chan<- segment, latency time.Duration) {
	defer close(sent)
	b := make([]byte, 32<<10)
	for {
		n, err := src.Read(b)
		if n > 0 {
			pulse.Add(1)
			due := time.Time{}
			if latency > 0 && l.handshakes.Load() >= 2 {
				due = time.Now().Add(latency)
			}
			sent <- segment{due, bytes.Clone(b[:n])}
		}
		if err != nil {
			return
		}
	}
}

// pass waits until the link lets bytes through; false: the connection was reset.
func (l *line) pass(on *link, due time.Time) bool {
	if d := time.Until(due); d > 0 && !due.IsZero() {
		sleep(d)
	}
	for {
		select {
		case <-l.reset:
			return false
		default:
		}
		held := on.gate()
		if held == nil {
			return true
		}
		if l.handshakes.Load() < 2 { // cut during the handshake: nats.go holds its lock, so it must fail
			l.drop()
			return false
		}
		select {
		case <-held:
		case <-l.reset:
			return false
		}
	}
}

// deliver writes whole protocol messages and lets watch act around each publication.
func (l *line) deliver(dst net.Conn, on *link, messages []message, watch func(publication) verdict) bool {
	for _, m := range messages {
		var v verdict
		if m.publishes {
			v = watch(m.publication)
		}
		if v.before != nil {
			v.before()
			if !l.pass(on, time.Time{}) {
				return false
			}
		}
		if v.lost || m.publishes && l.server >= 0 && l.c.servers.isSilent(l.server) {
			continue
		}
		switch {
		case v.instead != nil:
			m.bytes = v.instead
		case on == &l.c.down && l.c.stamps != nil:
			m.bytes = l.c.stamps(m)
		}
		if _, err := dst.Write(m.bytes); err != nil {
			return false
		}
		if v.after != nil {
			v.after()
			if !l.pass(on, time.Time{}) {
				return false
			}
		}
	}
	return true
}
