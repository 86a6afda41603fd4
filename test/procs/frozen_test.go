package procs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dspex/dspex"
)

// tripwire carries connections to the broker. When a process sends the word for the first time, does strikes, and then the word
// goes on.
type tripwire struct {
	t    *testing.T
	to   string
	l    net.Listener
	word []byte
	does func()
	once sync.Once
	hit  chan struct{} // closed when it has struck
}

func layTripwire(t *testing.T, to, word string) *tripwire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &tripwire{t: t, to: to, l: l, word: []byte(word), hit: make(chan struct{})}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			go w.carry(near)
		}
	}()
	return w
}

func (w *tripwire) carry(near net.Conn) {
	defer func() { _ = near.Close() }()
	far, err := net.Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer func() { _ = far.Close() }()
	go func() {
		defer func() { _ = near.Close() }()
		_, _ = io.Copy(near, far)
	}()
	b := make([]byte, 64<<10)
	for {
		n, err := near.Read(b)
		if bytes.Contains(b[:n], w.word) {
			w.once.Do(func() { w.does(); close(w.hit) })
		}
		if _, bad := far.Write(b[:n]); err != nil || bad != nil {
			return
		}
	}
}

const touching = `
from dspex_worker import command


@command
def touch() -> bool:
    print("the world is touched", flush=True)
    return True
`

func TestWhatAFrozenHostWasAboutToStartRunsOnceThoughItThaws(t *testing.T) {
	d := deploy(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "touching.py"), []byte(touching), 0o600); err != nil {
		t.Fatal(err)
	}
	modules := []string{"--import", "touching", "--path", dir}
	d.start("dispatcher", "d1")
	wire := layTripwire(t, d.broker.Addr().String(), "PUB $KV.dspex_sessions.h.frozen ")
	h1 := (&deployment{t: t, broker: d.broker, url: "nats://" + wire.l.Addr().String()}).host("h1", modules...)
	wire.does = func() { h1.signal(syscall.SIGSTOP) }
	t.Cleanup(func() { _ = h1.cmd.Process.Signal(syscall.SIGCONT) })
	h1.awaitReady()
	c := d.client()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	job, err := c.Submit(ctx, "frozen", "touch", dspex.Args{}, dspex.WithMaxRetries(3))
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-wire.hit:
	case <-time.After(patience):
		t.Fatal("the record of the attempt is not written")
	}
	h2 := d.host("h2", modules...).awaitReady()
	if r, err := c.Wait(ctx, job.Job); err != nil || r.Host != "h2" || r.Attempt != 2 {
		t.Fatalf("%+v %v", r, err)
	}
	h1.signal(syscall.SIGCONT)
	for n, end := 0, time.Now().Add(patience); ; n++ { // it is back when it runs a job
		r, err := c.Execute(ctx, fmt.Sprint("t", n), "append", dspex.Args{"x": 1})
		if err != nil || time.Now().After(end) {
			t.Fatalf("%+v %v", r, err)
		}
		if r.Host == "h1" {
			break
		}
	}
	if said := h1.said() + h2.said(); strings.Count(said, "the world is touched") != 1 {
		t.Errorf("not touched once:\n%s", said)
	}
}
