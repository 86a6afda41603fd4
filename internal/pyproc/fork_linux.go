package pyproc

import (
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/pyproc/proc"
)

// lose ends the workers of a zygote that is gone. The kernel has killed them; what they started lives in their groups.
func (z *zygote) lose() {
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, k := range z.kin {
		if !proc.IsClosed(k.exited) {
			k.status = proc.ExitStatus{Code: -1, Signal: syscall.SIGKILL, Why: errZygoteGone}
			close(k.exited)
		}
		_ = syscall.Kill(-k.pid, syscall.SIGKILL)
		k.lost = true
	}
}

// fork implements forker.
func (z *zygote) fork(sp proc.Spec) (*proc.Child, error) {
	p, err := proc.OpenPipes()
	defer p.CloseWorkerEnds()
	if err == nil {
		var k *kin
		if k, err = z.order(sp, p); err == nil {
			return z.newChild(k, p)
		}
	}
	p.CloseHostEnds()
	return nil, err
}

// order sends FORK and waits for the answer. A zygote that does not give one hangs, and is of no use to anybody.
func (z *zygote) order(sp proc.Spec, p *proc.Pipes) (*kin, error) {
	answered := make(chan forked, 1)
	z.mu.Lock()
	z.lastFork++
	id := z.lastFork
	z.forks[id] = answered
	z.mu.Unlock()
	ends := p.WorkerEnds()
	if sp.Channel != nil {
		ends = append(ends, sp.Channel)
	}
	var fds []int
	for _, end := range ends {
		fds = append(fds, int(end.Fd()))
	}
	if err := z.send(frame.Fork, id, frame.ForkBody{Nonce: sp.Nonce}.AppendBody(nil), fds...); err != nil {
		return nil, err
	}
	limit := time.NewTimer(handshakeTimeout)
	defer limit.Stop()
	select {
	case a := <-answered:
		return a.kin, a.err
	case <-z.dead:
		return nil, errZygoteGone
	case <-limit.C:
		z.Child.Signal(syscall.SIGKILL)
		return nil, &HungError{Worker: z.Name, Waited: handshakeTimeout, For: frame.Forked.String()}
	}
}

func (z *zygote) send(t frame.Type, id uint64, body []byte, fds ...int) error {
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	datagram := append(frame.AppendHeader(nil, t, id, len(body)), body...)
	if _, _, err := z.socket.WriteMsgUnix(datagram, rights, nil); err != nil {
		return fmt.Errorf("%w: %w", errZygoteGone, err)
	}
	return nil
}

// newChild makes a worker's kin what the pool uses as a child.
func (z *zygote) newChild(k *kin, p *proc.Pipes) (*proc.Child, error) {
	c, err := proc.Forked(k.pid, p)
	if err != nil { // cannot be: the file is a pipe and open
		z.kill(k, syscall.SIGKILL)
		return nil, err
	}
	c.Wait = func() { <-k.exited }
	c.Signal = func(s syscall.Signal) { z.kill(k, s) }
	c.RequestStacks = func() { z.ifKnown(k, func() { _ = syscall.Kill(k.pid, syscall.SIGUSR2) }) }
	c.Reap = func() proc.ExitStatus { return z.reap(k) }
	return c, nil
}

func (z *zygote) kill(k *kin, s syscall.Signal) {
	z.ifKnown(k, func() { _ = syscall.Kill(-k.pid, s) })
}

// ifKnown acts while the worker's number is sure to be its own.
func (z *zygote) ifKnown(k *kin, act func()) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if !k.lost {
		act()
	}
}

// reap lets the zygote reap the worker.
func (z *zygote) reap(k *kin) proc.ExitStatus {
	z.mu.Lock()
	defer z.mu.Unlock()
	delete(z.kin, k.pid)
	if !k.lost {
		k.lost = true
		_ = z.send(frame.Reap, 0, frame.ReapBody{PID: uint64(k.pid)}.AppendBody(nil)) // a zygote that is gone has nothing to reap
	}
	return k.status
}

func (z *zygote) answer(id uint64, a forked) error {
	z.mu.Lock()
	ch := z.forks[id]
	delete(z.forks, id)
	z.mu.Unlock()
	if ch == nil {
		return fmt.Errorf("an answer to FORK %d, which is not in flight", id)
	}
	ch <- a // there is room
	return nil
}

func (z *zygote) note(b frame.ExitedBody) error {
	z.mu.Lock()
	defer z.mu.Unlock()
	k := z.kin[int(b.PID)]
	if k == nil || proc.IsClosed(k.exited) {
		return fmt.Errorf("the end of process %d, which is no worker", b.PID)
	}
	if k.status = (proc.ExitStatus{Code: int(b.Code)}); b.Signal != 0 {
		k.status = proc.ExitStatus{Code: -1, Signal: syscall.Signal(b.Signal)}
	}
	close(k.exited)
	return nil
}

// zygote is the fork server as the host sees it: a process and a socket of datagrams, one frame in each. Descriptors travel
// beside FORK. It is the parent of its workers: it reports when one has ended, and reaps it when the host has dealt with the
// process group.
type zygote struct {
	peer
	pool    *Pool
	nonce   string
	socket  *net.UnixConn
	control chan frame.Frame // of the handshake
	read    chan struct{}    // closed when the reader has ended
	dead    chan struct{}    // closed when it can fork no more
	ended   chan struct{}    // closed when everything of it is gone, with status
	status  proc.ExitStatus

	mu       sync.Mutex
	lastFork uint64
	forks    map[uint64]chan forked // in flight
	kin      map[int]*kin           // not reaped
}

// forked is the answer to a FORK.
type forked struct {
	kin *kin
	err error
}

// kin is a worker as its zygote's child.
type kin struct {
	pid    int
	exited chan struct{}
	status proc.ExitStatus // once exited is closed
	lost   bool            // the zygote is gone: its number may soon be another's
}
