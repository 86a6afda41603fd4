package sandbox

import (
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// mostConnections bounds what one worker may have open at once: twice what a profile allows by default.
const mostConnections = 2048

// Exchange hands out connections to workers that can open none: a worker makes a pair of sockets and sends one end over the channel that it
// was given at its start. It is the listener for the process that serves the other ends.
type Exchange struct {
	accepted chan net.Conn
	closed   chan struct{}
	once     sync.Once
	readers  sync.WaitGroup
}

// NewExchange makes one. Close it when all its channels are closed.
func NewExchange() *Exchange {
	return &Exchange{accepted: make(chan net.Conn), closed: make(chan struct{})}
}

// Open makes a channel for one worker: its end, and what is to be closed with the worker.
func (x *Exchange) Open() (theirs *os.File, ours io.Closer, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	near, theirs := os.NewFile(uintptr(fds[0]), "channel"), os.NewFile(uintptr(fds[1]), "channel")
	defer near.Close()
	conn, err := net.FileConn(near)
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	channel := conn.(*net.UnixConn)
	x.readers.Go(func() { x.receive(channel) })
	return theirs, channel, nil
}

// receive takes the ends that a worker sends until its channel ends.
func (x *Exchange) receive(channel *net.UnixConn) {
	room := make(chan struct{}, mostConnections)
	word, rights := make([]byte, 16), make([]byte, unix.CmsgSpace(4))
	for {
		n, size, _, _, err := channel.ReadMsgUnix(word, rights)
		if err != nil || n == 0 && size == 0 {
			return
		}
		for _, conn := range connections(rights[:size]) {
			select {
			case room <- struct{}{}:
			default: // it has too many
				conn.Close()
				continue
			}
			counted := &countedConn{Conn: conn, release: sync.OnceFunc(func() { <-room })}
			select {
			case x.accepted <- counted:
			case <-x.closed:
				counted.Close()
				return
			}
		}
	}
}

// connections makes connections of what came beside a message. All else that a worker may send is closed.
func connections(rights []byte) (conns []net.Conn) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			file := os.NewFile(uintptr(fd), "connection")
			domain, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
			kind, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
			if domain == unix.AF_UNIX && kind == unix.SOCK_STREAM {
				if conn, err := net.FileConn(file); err == nil {
					conns = append(conns, conn)
				}
			}
			file.Close()
		}
	}
	return conns
}

// countedConn gives its place back when it is closed.
type countedConn struct {
	net.Conn
	release func()
}

func (c *countedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

// Accept implements net.Listener.
func (x *Exchange) Accept() (net.Conn, error) {
	select {
	case conn := <-x.accepted:
		return conn, nil
	case <-x.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (x *Exchange) Close() error {
	x.once.Do(func() { close(x.closed) })
	return nil
}

// Addr implements net.Listener.
func (x *Exchange) Addr() net.Addr { return &net.UnixAddr{Name: "workers", Net: "unix"} }
