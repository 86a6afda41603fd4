package pyproc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/pyproc/proc"
)

// moodySink takes a random part of what it is offered at once, and everything in Write as soon as gate lets it.
type moodySink struct {
	mu   sync.Mutex
	got  bytes.Buffer
	gate chan struct{} // nil: Write does not wait
	none bool          // Try takes nothing
	err  error
}

func (s *moodySink) Try(head, body []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.none {
		return 0, s.err
	}
	all := append(bytes.Clone(head), body...)
	n := rand.IntN(len(all) + 1)
	if rand.IntN(2) == 0 {
		n = len(all)
	}
	s.got.Write(all[:n])
	return n, nil
}

func (s *moodySink) Write(b []byte) (int, error) {
	if s.gate != nil {
		<-s.gate
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.Write(b)
}

func (s *moodySink) Close() error { return nil }

func TestFramesArriveWholeAndInOrderHoweverThePipeTakesThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &moodySink{}
		w := newWriter(sink)
		go w.run()
		const senders, each = 4, 500
		var all sync.WaitGroup
		for s := range senders {
			all.Go(func() {
				for i := range each {
					body := bytes.Repeat([]byte{byte(s)}, rand.IntN(300))
					if err := w.send(frame.Call, uint64(s*each+i), body); err != nil {
						t.Error(err)
					}
					clear(body) // the caller's again
					for j := range body {
						body[j] = 0xff
					}
				}
			})
		}
		all.Wait()
		synctest.Wait()
		w.close()
		next := [senders]uint64{}
		r := bufio.NewReader(&sink.got)
		for range senders * each {
			f, err := frame.Read(r, 0)
			if err != nil {
				t.Fatal(err)
			}
			s := f.ID / each
			if f.ID%each != next[s] {
				t.Fatalf("sender %d: got frame %d, want %d", s, f.ID%each, next[s])
			}
			next[s]++
			if bytes.Count(f.Body, []byte{byte(s)}) != len(f.Body) {
				t.Fatal("got bytes of another frame")
			}
		}
		if _, err := r.ReadByte(); err != io.EOF {
			t.Errorf("got %v after the last frame, want the end", err)
		}
	})
}

func TestCallsWaitForRoomWhenTheWorkerDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &moodySink{none: true, gate: make(chan struct{})}
		w := newWriter(sink)
		w.most = 64 << 10
		go w.run()
		body := make([]byte, 16<<10)
		for range 4 {
			if err := w.awaitRoom(waitFor(t.Context())); err != nil {
				t.Fatal(err)
			}
			w.send(frame.Call, 1, body)
		}
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan error, 2)
		go func() { got <- w.awaitRoom(waitFor(ctx)) }()
		synctest.Wait()
		if len(got) != 0 {
			t.Fatal("there is room for more than the bound")
		}
		cancel()
		if err := <-got; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want cancelled", err)
		}
		go func() { got <- w.awaitRoom(waitFor(t.Context())) }()
		close(sink.gate)
		if err := <-got; err != nil {
			t.Errorf("got %v, want room", err)
		}
		w.close()
	})
}

func TestBrokenPipeIsToldAndEndsEveryWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &moodySink{err: io.ErrClosedPipe}
		w := newWriter(sink)
		go w.run()
		if err := w.send(frame.Call, 1, nil); !errors.Is(err, io.ErrClosedPipe) || !proc.IsClosed(w.broken) {
			t.Errorf("got %v, broken %v; want the error and the mark", err, proc.IsClosed(w.broken))
		}
		if err := w.send(frame.Call, 2, nil); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("got %v, want the first error for ever", err)
		}
		w.close()
	})
}
