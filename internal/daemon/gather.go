package daemon

import (
	"net"
	"runtime"
	"sync"
	"time"
)

// Bounds of a gathering connection.
const (
	mostGathered = 1 << 20         // bytes that wait to be written; then Write waits
	writeTimeout = time.Minute     // of one system call: a peer that takes nothing for so long is gone
	closeTimeout = time.Second     // for what is still there at Close
	dialTimeout  = 2 * time.Second // as the NATS client's own
)

// gatherDialer makes connections that gather.
type gatherDialer struct{ net.Dialer }

func (d *gatherDialer) Dial(network, address string) (net.Conn, error) {
	c, err := d.Dialer.Dial(network, address)
	if err != nil {
		return nil, err
	}
	return gather(c), nil
}

// gathered is a connection that lets all goroutines that are about to write do so before it makes the system call. The NATS client
// flushes as soon as a goroutine has published, before the next one that is ready gets to run. So a worker-host with dozens of jobs at
// the same time made a system call for every second message: a quarter of its processor time.
//
// No time passes on purpose: with nobody else ready the write goes out at once.
type gathered struct {
	net.Conn
	kick  chan struct{} // capacity 1: there is something to write
	ended chan struct{} // closed when run has returned

	mu     sync.Mutex
	room   sync.Cond // waiting grew shorter, or err is set
	wait   []byte    // not yet written
	err    error     // of the last write, or net.ErrClosed
	closed bool
}

func gather(c net.Conn) *gathered {
	g := &gathered{Conn: c, kick: make(chan struct{}, 1), ended: make(chan struct{})}
	g.room.L = &g.mu
	go g.run()
	return g
}

// Write keeps b and returns. The error is that of an earlier write: what was kept then is lost, as it is in the buffers of
// a connection that breaks.
func (g *gathered) Write(b []byte) (int, error) {
	g.mu.Lock()
	for len(g.wait) >= mostGathered && g.err == nil {
		g.room.Wait()
	}
	if g.err != nil {
		defer g.mu.Unlock()
		return 0, g.err
	}
	g.wait = append(g.wait, b...)
	g.mu.Unlock()
	g.poke()
	return len(b), nil
}

func (g *gathered) poke() {
	select {
	case g.kick <- struct{}{}:
	default:
	}
}

// run writes until Close or an error.
func (g *gathered) run() {
	defer close(g.ended)
	var spare []byte
	for range g.kick {
		runtime.Gosched() // behind everybody who is ready
		b, closed := g.take(spare)
		if len(b) > 0 {
			_, err := g.Conn.Write(b)
			g.wrote(err)
			if err != nil {
				return
			}
		}
		if spare = b[:0]; cap(spare) > mostGathered {
			spare = nil // a large message has gone by
		}
		if closed {
			return
		}
	}
}

// take hands out everything that waits and leaves spare for what comes next.
func (g *gathered) take(spare []byte) ([]byte, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	b := g.wait
	g.wait = spare
	if !g.closed { // else Close has set a nearer one
		_ = g.Conn.SetWriteDeadline(time.Now().Add(writeTimeout)) // if it fails, so does Write
	}
	return b, g.closed
}

func (g *gathered) wrote(err error) {
	g.mu.Lock()
	if g.err == nil {
		g.err = err
	}
	g.mu.Unlock()
	g.room.Broadcast()
}

// Close writes what waits, within a second, and closes the connection.
func (g *gathered) Close() error {
	g.mu.Lock()
	again := g.closed
	g.closed = true
	if g.err == nil {
		g.err = net.ErrClosed
	}
	if !again {
		_ = g.Conn.SetWriteDeadline(time.Now().Add(closeTimeout))
	}
	g.mu.Unlock()
	g.room.Broadcast()
	g.poke()
	<-g.ended
	return g.Conn.Close()
}

// SetWriteDeadline does nothing: writes return at once, and those behind them have a deadline of their own.
func (g *gathered) SetWriteDeadline(time.Time) error { return nil }
