package daemon

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// counting counts the writes of a connection.
type counting struct {
	net.Conn
	writes atomic.Int64
}

func (c *counting) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

func TestEverythingArrivesInTheOrderOfTheWrites(t *testing.T) {
	near, far := net.Pipe()
	g := gather(near)
	const writers, each = 8, 500
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for n := range each {
				var b [8]byte
				binary.BigEndian.PutUint32(b[:4], uint32(w))
				binary.BigEndian.PutUint32(b[4:], uint32(n))
				if _, err := g.Write(b[:]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	next := [writers]uint32{}
	var b [8]byte
	for range writers * each {
		if _, err := io.ReadFull(far, b[:]); err != nil {
			t.Fatal(err)
		}
		w, n := binary.BigEndian.Uint32(b[:4]), binary.BigEndian.Uint32(b[4:])
		if n != next[w] {
			t.Fatalf("writer %d: got its write %d, expected %d", w, n, next[w])
		}
		next[w]++
	}
	all.Wait()
	if err := g.Close(); err != nil {
		t.Error(err)
	}
}

func TestWhatIsWrittenWhileAWriteIsUnderWayGoesOutTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		c := &counting{Conn: near}
		g := gather(c)
		_, _ = g.Write([]byte("a"))
		synctest.Wait() // in the pipe's Write: nobody reads
		for range 100 {
			_, _ = g.Write([]byte("b"))
		}
		b := make([]byte, 101)
		if _, err := io.ReadFull(far, b); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b, append([]byte("a"), bytes.Repeat([]byte("b"), 100)...)) {
			t.Errorf("got %q", b)
		}
		if n := c.writes.Load(); n != 2 {
			t.Errorf("%d writes, expected 2", n)
		}
		_ = g.Close()
	})
}

func TestCloseWritesWhatWaitsAndIsNotHeldUpByADeafPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		g := gather(near)
		_, _ = g.Write([]byte("last words"))
		heard := make(chan []byte)
		go func() { b, _ := io.ReadAll(far); heard <- b }()
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		if b := <-heard; string(b) != "last words" {
			t.Errorf("got %q", b)
		}
		near, _ = net.Pipe()
		g = gather(near)
		_, _ = g.Write([]byte("nobody reads this"))
		_ = g.Close() // in a bubble a wait without end is a failure
		if _, err := g.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, net.ErrClosed) {
			t.Errorf("after Close: got %v", err)
		}
	})
}

func TestAWriterWaitsForAPeerThatDoesNotReadAndLearnsOfItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		g := gather(near)
		_, _ = g.Write([]byte("in the pipe"))
		synctest.Wait()
		_, _ = g.Write(make([]byte, mostGathered))
		ended := make(chan error, 1)
		go func() { _, err := g.Write([]byte("too much")); ended <- err }()
		synctest.Wait()
		select {
		case err := <-ended:
			t.Fatalf("the write did not wait: %v", err)
		default:
		}
		_ = far.Close()
		if err := <-ended; err == nil {
			t.Error("a write into a broken connection succeeded")
		}
		_ = g.Close()
	})
}
