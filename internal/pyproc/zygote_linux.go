package pyproc

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/pyproc/proc"
)

const canFork = true

// maxDatagram bounds one frame of a zygote: READY, with the names of all commands, is the largest.
const maxDatagram = 1 << 20

// openZygote starts a zygote and waits until it has loaded what workers need.
func (p *Pool) openZygote(ctx context.Context, s *proc.Spawner) (forker, error) {
	z := &zygote{
		pool: p, nonce: rand.Text(), control: make(chan frame.Frame, controlQueue), read: make(chan struct{}),
		dead: make(chan struct{}), ended: make(chan struct{}), forks: map[uint64]chan forked{}, kin: map[int]*kin{},
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	c, err := s.SpawnBare(proc.Spec{Command: p.cfg.Command, Dir: p.cfg.Dir,
		Env: append(slices.Clone(p.cfg.Env), "DSPEX_NONCE="+z.nonce, "DSPEX_ZYGOTE=1")}, theirs)
	if err != nil {
		ours.Close()
		return nil, err
	}
	z.socket, z.peer = ours, peer{proc.NewProcess(p.cfg.Name+"/zygote", c, p.cfg.Log)}
	none := make(chan struct{})
	close(none)
	z.Watch(none)
	go z.run()
	if err := z.handshake(ctx); err != nil {
		return nil, err
	}
	p.cfg.Log.Debug("zygote_ready", "worker", z.Name, "pid", c.PID)
	return z, nil
}

// socketPair makes the socket of a zygote; theirs is its descriptor 3.
func socketPair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	near, theirs := os.NewFile(uintptr(fds[0]), "zygote"), os.NewFile(uintptr(fds[1]), "zygote")
	defer near.Close()
	conn, err := net.FileConn(near)
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return conn.(*net.UnixConn), theirs, nil
}

// run reads what the zygote sends and clears up when it ends.
func (z *zygote) run() {
	defer close(z.ended)
	z.All.Go(func() {
		defer close(z.read)
		if err := z.readFrames(); err != nil {
			z.pool.cfg.Log.Error("zygote_killed", "worker", z.Name, "error", err)
			z.Child.Signal(syscall.SIGKILL)
		}
	})
	select {
	case <-z.read:
	case <-z.Exited:
		if !proc.ClosedWithin(z.read, drainTimeout) { // its last words are in the socket still
			z.closeSocket()
			<-z.read
		}
	}
	close(z.dead)
	z.lose()
	if !z.ExitsWithin(termGrace) {
		z.Child.Signal(syscall.SIGKILL)
		<-z.Exited
	}
	z.Child.Signal(syscall.SIGKILL) // what its imports may have started
	z.pool.removeScratch(z.Process)
	z.status = z.Child.Reap()
	z.closeSocket()
	z.ClosePipes(time.Now())
	z.All.Wait()
}

func (z *zygote) closeSocket() { z.socket.Close() }

func (z *zygote) gone() <-chan struct{} { return z.dead }

func (z *zygote) close() {
	z.closeSocket()
	<-z.ended
}

func (z *zygote) readFrames() error {
	buf := make([]byte, maxDatagram)
	for {
		n, err := z.socket.Read(buf)
		if err != nil {
			return nil //nolint:nilerr // it is the end, and why it came is in the exit status
		}
		r := bufio.NewReader(bytes.NewReader(buf[:n]))
		f, err := frame.Read(r, maxDatagram)
		if err == nil && r.Buffered() > 0 {
			err = errors.New("bytes behind the frame")
		}
		if err == nil {
			err = z.accept(f)
		}
		if err != nil {
			return z.protocolError("unreadable datagram", err)
		}
	}
}

func (z *zygote) accept(f frame.Frame) error {
	switch {
	case f.Type == frame.Forked:
		b, err := frame.ParseForked(f.Body)
		if err != nil {
			return err
		}
		// Code of users may write as the zygote: the host signals what it names.
		if parent := proc.ParentOf(int(b.PID)); parent != z.Child.PID {
			return fmt.Errorf("process %d is FORKED, but a child of %d", b.PID, parent)
		}
		k := &kin{pid: int(b.PID), exited: make(chan struct{})}
		z.mu.Lock()
		z.kin[k.pid] = k
		z.mu.Unlock()
		return z.answer(f.ID, forked{kin: k})
	case f.Type == frame.Error && f.ID != 0:
		b, err := frame.ParseError(f.Body)
		if err != nil {
			return err
		}
		return z.answer(f.ID, forked{err: &refusedError{reported{b}}})
	case f.Type == frame.Exited:
		b, err := frame.ParseExited(f.Body)
		if err != nil {
			return err
		}
		return z.note(b)
	}
	select {
	case z.control <- f:
		return nil
	default:
		return fmt.Errorf("too many frames of type %s", f.Type)
	}
}

// handshake brings a started zygote to READY; on failure it is gone.
func (z *zygote) handshake(ctx context.Context) error {
	stage := Handshake
	limit := z.pool.cfg.StartTimeout
	began := time.Now()
	f, err := z.next(ctx, frame.Hello, min(handshakeTimeout, limit))
	if err == nil {
		err = z.greet(f)
	}
	if err == nil {
		stage = Warming
		if f, err = z.next(ctx, frame.Ready, limit-time.Since(began)); err == nil {
			_, err = frame.ParseReady(f.Body)
		}
	}
	if err == nil {
		return nil
	}
	var hung *HungError
	if errors.As(err, &hung) && stage == Warming {
		hung.Stack = z.RequestStacks(z.Logs.Tail.Mark())
	}
	return z.startError(stage, err)
}

func (z *zygote) greet(f frame.Frame) error {
	if _, err := z.checkHello(z.nonce, f); err != nil {
		return err
	}
	body, err := z.pool.initBody(z.Name)
	if err != nil {
		return err
	}
	return z.send(frame.Init, 0, body)
}

func (z *zygote) next(ctx context.Context, t frame.Type, limit time.Duration) (frame.Frame, error) {
	return z.nextOf(ctx, z.control, z.read, t, limit)
}

// startError ends the zygote and reports why it did not come to READY, in its own words if it had any.
func (z *zygote) startError(stage State, cause error) error {
	var own *reported
	exit := &ExitError{Worker: z.Name, PID: z.Child.PID, Stage: stage, Cause: cause}
	if errors.Is(cause, errEnded) || errors.As(cause, &own) && z.ExitsWithin(termGrace) {
		exit.Cause = nil
	} else {
		z.Child.Signal(syscall.SIGKILL)
	}
	<-z.ended
	if own == nil {
		own = lastWords(z.control)
	}
	exit.Code, exit.Signal, exit.StderrTail = z.status.Code, z.status.Signal, z.Logs.Tail.String()
	e := &StartError{Worker: z.Name, Stage: stage, Err: exit}
	if own != nil {
		e.say(own)
	}
	return e
}
