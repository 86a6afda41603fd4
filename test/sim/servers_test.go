package sim

import (
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/quorum"
	"github.com/dspex/dspex/internal/stream"
)

// servers are two addresses that lead to the broker, as if it were a cluster. One that is cut off from the others, and all of them while
// they elect a leader, answer pings and nothing else.
type servers struct {
	mu     sync.Mutex
	silent [2]int // faults that silence it
	faults int    // so far
}

// addresses of the servers.
var addresses = [2]string{"nats://10.0.0.1:4222", "nats://10.0.0.2:4222"}

// leftWithin is how long a process may stay on a server that was cut off, and quietWithin how long after an election it could still be
// about to leave.
const (
	leftWithin  = 10 * time.Second
	quietWithin = 3 * time.Second
)

// hush silences servers. It returns the number of the fault, and whether it is the only one of its kind.
func (s *servers) hush(which ...int) (fault int, alone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	alone = s.silent == [2]int{}
	for _, n := range which {
		s.silent[n]++
	}
	s.faults++
	return s.faults, alone
}

// heal ends a fault.
func (s *servers) heal(which ...int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range which {
		s.silent[n]--
	}
}

// latest is the number of the fault that came last.
func (s *servers) latest() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults
}

// isSilent reports whether nothing but pings passes.
func (s *servers) isSilent(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.silent[n] > 0
}

// dialer connects to one of the servers through the cable of a process.
type dialer struct{ c *cable }

func (d dialer) Dial(_, address string) (net.Conn, error) {
	for n, a := range addresses {
		if u, err := url.Parse(a); err == nil && u.Host == address {
			return d.c.dial(n)
		}
	}
	return nil, errUnreachable
}

// clustered are the options of a process with the addresses of both servers, the first of them first or the second.
func (p *process) clustered() []nats.Option {
	first := int(p.world.cableIDs.Load() % 2)
	return []nats.Option{nats.SetCustomDialer(dialer{p.cable}), nats.DontRandomize(), nats.Timeout(time.Second),
		func(o *nats.Options) error {
			o.Servers = []string{addresses[first], addresses[1-first]}
			return nil
		}}
}

// keep watches the connection as the binaries do.
func (p *process) keep() {
	p.world.wg.Go(func() { quorum.New(p.nc, stream.CheckQuorum, p.world.log(p)).Run(p.ctx) })
}

// server is the one that a process is connected to; -1: none.
func (p *process) server() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.nc != nil && p.nc.IsConnected() {
		for n, a := range addresses {
			if p.nc.ConnectedUrl() == a {
				return n
			}
		}
	}
	return -1
}

// position is where a process was when a fault began.
type position struct {
	p        *process
	server   int
	troubles int // of its cable until then
}

// positions are those of all hosts and dispatchers that are connected, and not cut off for another reason.
func (w *world) positions() (list []position) {
	for _, p := range w.running() {
		if n := p.server(); n >= 0 && !p.client && !p.cable.isCut() {
			list = append(list, position{p, n, p.cable.troubles()})
		}
	}
	return list
}

// undisturbed reports whether nothing else has happened to the process.
func (w *world) undisturbed(s position) bool {
	return w.find(s.p.name) == s.p && s.p.ctx.Err() == nil && s.p.cable.troubles() == s.troubles
}

// isolate cuts a server off. Who was connected to it has to be gone after ten seconds.
func (w *world) isolate(n int, lasts time.Duration) {
	check := w.judge(leftWithin, n)
	w.after(lasts, func() { w.servers.heal(n) })
	check(func(s position) string {
		if s.server == n && s.p.server() == n {
			return fmt.Sprintf("is still on a server that was cut off %v ago", leftWithin)
		}
		return ""
	})
}

// elect has all servers silent for as long as an election takes. Nobody has anywhere to go.
func (w *world) elect(lasts time.Duration) {
	check := w.judge(lasts+quietWithin, 0, 1)
	w.after(lasts, func() { w.servers.heal(0, 1) })
	check(func(s position) string {
		if s.p.server() != s.server {
			return fmt.Sprintf("left its server in an election of %v", lasts)
		}
		return ""
	})
}

// judge silences servers, and returns what looks at each process after a while: a fault is only judged if it is alone, and nothing else
// has happened to the process or to the broker.
func (w *world) judge(after time.Duration, which ...int) func(look func(position) string) {
	positions, broker := w.positions(), w.broker.srv.Load()
	fault, alone := w.servers.hush(which...)
	return func(look func(position) string) {
		w.after(after, func() {
			if !alone || w.servers.latest() != fault || w.broker.srv.Load() != broker {
				return
			}
			for _, s := range positions {
				if text := look(s); text != "" && w.undisturbed(s) {
					w.history.add(event{kind: final, who: s.p.who, text: s.p.who + " " + text})
				}
			}
		})
	}
}
