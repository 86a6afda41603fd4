package natstest

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Cluster is three brokers. All routes of the first one lead through a wall, where it can be cut off.
type Cluster struct {
	Servers [3]*server.Server
	*Wall
}

// RunCluster starts three brokers that form a cluster with JetStream and stops them at the test's end.
func RunCluster(t testing.TB, more ...func(*server.Options)) *Cluster {
	t.Helper()
	c := &Cluster{Wall: NewWall(t)}
	var own, through [3]*url.URL
	for n := range own {
		own[n] = route(FreeAddress(t))
		through[n] = route(c.Proxy(t, own[n].Host))
	}
	// The first one comes last: brokers name others to each other, and those two must have found each other without a proxy by then.
	for _, n := range []int{1, 2, 0} {
		routes := []*url.URL{through[0], own[1], own[2]}
		if n == 0 {
			c.await(t, c.Servers[1:])
			routes = through[:]
		}
		port, err := strconv.Atoi(own[n].Port())
		check(t, err)
		o := &server.Options{
			ServerName: fmt.Sprint("n", n), Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true,
			JetStream: true, StoreDir: t.TempDir(), JetStreamMaxMemory: 1 << 30, JetStreamMaxStore: 8 << 30, Routes: routes,
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: port, Advertise: through[n].Host},
		}
		for _, set := range more {
			set(o)
		}
		c.Servers[n], err = server.NewServer(o)
		check(t, err)
		c.Servers[n].Start()
		t.Cleanup(func() {
			c.Servers[n].Shutdown()
			c.Servers[n].WaitForShutdown()
		})
	}
	c.await(t, c.Servers[:])
	eventually(t, "a leader", func() bool {
		return slices.ContainsFunc(c.Servers[:], (*server.Server).JetStreamIsLeader)
	})
	c.noneAround(t, own)
	return c
}

// noneAround checks that the first broker has no route around the wall.
func (c *Cluster) noneAround(t testing.TB, own [3]*url.URL) {
	t.Helper()
	for n, s := range c.Servers {
		list, err := s.Routez(nil)
		check(t, err)
		for _, r := range list.Routes {
			to := net.JoinHostPort(r.IP, strconv.Itoa(r.Port))
			if r.DidSolicit && (n == 0 && (to == own[1].Host || to == own[2].Host) || to == own[0].Host) {
				t.Fatalf("broker %d has a route around the wall, to %s", n, to)
			}
		}
	}
}

// await waits until some brokers have found each other.
func (c *Cluster) await(t testing.TB, some []*server.Server) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d brokers connected to each other", len(some)), func() bool {
		return !slices.ContainsFunc(some, func(s *server.Server) bool { return s.NumRemotes() != len(some)-1 })
	})
}

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(ready); !holds(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", ready, what)
		}
	}
}

func route(address string) *url.URL { return &url.URL{Scheme: "nats-route", Host: address} }

// Wall has proxies that pass connections on. While it is shut it takes bytes and keeps them: nothing is closed, nothing arrives.
type Wall struct {
	ends   sync.WaitGroup
	closed chan struct{}

	mu   sync.Mutex
	shut chan struct{} // nil: bytes pass
}

// NewWall makes a wall that is open.
func NewWall(t testing.TB) *Wall {
	w := &Wall{closed: make(chan struct{})}
	t.Cleanup(func() { close(w.closed); w.ends.Wait() })
	return w
}

// Cut cuts the first broker off from the others.
func (w *Wall) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.shut == nil {
		w.shut = make(chan struct{})
	}
}

// Mend ends the cut.
func (w *Wall) Mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.shut != nil {
		close(w.shut)
		w.shut = nil
	}
}

// passes waits while the wall is shut; false: the test is over.
func (w *Wall) passes() bool {
	w.mu.Lock()
	shut := w.shut
	w.mu.Unlock()
	if shut != nil {
		select {
		case <-shut:
		case <-w.closed:
		}
	}
	select {
	case <-w.closed:
		return false
	default:
		return true
	}
}

// Proxy makes a proxy that leads to an address.
func (w *Wall) Proxy(t testing.TB, target string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	w.ends.Go(func() { <-w.closed; _ = l.Close() })
	w.ends.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			w.ends.Go(func() { w.carry(from, target) })
		}
	})
	return l.Addr().String()
}

func (w *Wall) carry(from net.Conn, target string) {
	to, err := net.Dial("tcp", target)
	if err != nil {
		_ = from.Close()
		return
	}
	w.ends.Go(func() { <-w.closed; _ = from.Close(); _ = to.Close() })
	w.ends.Go(func() { w.copy(to, from) })
	w.copy(from, to)
}

func (w *Wall) copy(dst io.WriteCloser, src io.Reader) {
	b := make([]byte, 32<<10)
	for {
		n, err := src.Read(b)
		if n > 0 && w.passes() {
			if _, err := dst.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			_ = dst.Close()
			return
		}
	}
}
