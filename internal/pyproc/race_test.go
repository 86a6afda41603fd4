//go:build linux || darwin

package pyproc

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/wire"
)

// raced calls body often, each time with a context that ends at about the moment of the answer.
func raced(t *testing.T, p *Pool, callers, each int, body []byte) {
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for i := range each {
				s := checkout(t, p)
				ctx, cancel := context.WithCancel(t.Context())
				go func() {
					for range i % 40 {
						runtime.Gosched()
					}
					cancel()
				}()
				f, err := s.Call(ctx, body, nil)
				if !(err == nil && f.Type == frame.Result) && !errors.Is(err, context.Canceled) {
					t.Errorf("got %v, %v; want a RESULT or the end of the context", f.Type, err)
				}
				s.Release()
				cancel()
			}
		})
	}
	all.Wait()
}

func TestRaceOfCancelAndResultLosesNoSlotAndNoWorker(t *testing.T) {
	p, _ := runPool(t, testConfig(""))
	raced(t, p, 4, 2500, callBody("echo", 0))
	awaitAllFree(t, p)
	large := wire.AppendBin(wire.AppendStr(wire.AppendMap(nil, 1), "k"), bytes.Repeat([]byte{7}, 1500<<10))
	raced(t, p, 4, 10, frame.CallBody{Command: "echo", Args: large, Job: "j"}.AppendBody(nil))
	awaitAllFree(t, p)
	if st := p.Stats().Workers[0]; st.Restarts != 0 || st.State != Idle {
		t.Errorf("got %+v, want the first worker, idle", st)
	}
}

// awaitAllFree gets the worker alone: every slot has come back.
func awaitAllFree(t *testing.T, p *Pool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // only so that a failure shows where
	defer cancel()
	s, err := p.Checkout(ctx, 0, Alone)
	if err != nil {
		t.Fatal(err)
	}
	s.Release()
}

func TestCallAllocatesLittle(t *testing.T) {
	p, _ := runPool(t, testConfig(""))
	body := callBody("echo", 0)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	call := func() {
		s, err := p.Checkout(ctx, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Call(ctx, body, nil); err != nil {
			t.Fatal(err)
		}
		s.Release()
	}
	if got := testing.AllocsPerRun(500, call); got > 8 {
		t.Errorf("a call allocates %v times in the host, want at most 8", got)
	}
}
