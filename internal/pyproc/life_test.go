package pyproc

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/pyproc/proc"
)

func containsText(s, part string) bool { return strings.Contains(s, part) }

func TestHappyLifeGoesThroughItsStates(t *testing.T) {
	inBubble(t, Config{Size: 1}, nil, func(t *testing.T, b *bench) {
		if err := b.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		s := b.take(0)
		f, err := s.Call(t.Context(), callBody("echo", 0), nil)
		if err != nil || f.Type != frame.Result {
			t.Errorf("got %v, %v; want a RESULT", f, err)
		}
		s.Release()
		st := b.Stats().Workers[0]
		switch {
		case st.Name != "h/1":
			t.Errorf(`st.Name must be "h/1", got %v; stats: got %+v`, st.Name, st)
		case st.Engine != "stub":
			t.Errorf(`st.Engine must be "stub", got %v; stats: got %+v`, st.Engine, st)
		case st.EngineVersion != "1.2":
			t.Errorf(`st.EngineVersion must be "1.2", got %v; stats: got %+v`, st.EngineVersion, st)
		case st.RSS != 42:
			t.Errorf("st.RSS must be 42, got %v; stats: got %+v", st.RSS, st)
		case st.Jobs != 1:
			t.Errorf("st.Jobs must be 1, got %v; stats: got %+v", st.Jobs, st)
		case st.State != Idle:
			t.Errorf("st.State must be Idle, got %v; stats: got %+v", st.State, st)
		case st.ID != s.WorkerID():
			t.Errorf("st.ID: got %v, want %v; stats: got %+v", st.ID, s.WorkerID(), st)
		case st.ID == 0:
			t.Errorf("st.ID must not be 0; stats: got %+v", st)
		case st.Python != "3.12.1":
			t.Errorf(`st.Python must be "3.12.1", got %v; stats: got %+v`, st.Python, st)
		}
		began := time.Now()
		b.halt()
		if took := time.Since(began); took != 0 {
			t.Errorf("a polite worker took %v to stop", took)
		}
		want := []string{"empty>spawning", "spawning>handshake", "handshake>warming", "warming>idle", "idle>stopping", "stopping>exited", "exited>empty"}
		if got := b.seen("h/1"); !slices.Equal(got, want) {
			t.Errorf("got %v\nwant %v", got, want)
		}
	})
}

func TestStopLadderEndsAStubbornWorker(t *testing.T) {
	inBubble(t, Config{}, []string{"stubborn"}, func(t *testing.T, b *bench) {
		began := time.Now()
		b.halt()
		if took := time.Since(began); took != 7*time.Second {
			t.Errorf("took %v, want 5s for SHUTDOWN and 2s for SIGTERM", took)
		}
		if want := []string{"terminated", "killed", "killed"}; !slices.Equal(b.fake.signals, want) && !slices.Equal(b.fake.signals, want[:2]) {
			t.Errorf("signals: got %v, want %v", b.fake.signals, want)
		}
	})
}

func TestCallInFlightMayFinishWhileStopping(t *testing.T) {
	inBubble(t, Config{}, []string{"stubborn"}, func(t *testing.T, b *bench) {
		held, freer := b.take(0), b.take(0)
		got := make(chan error, 1)
		go func() { _, err := held.Call(t.Context(), callBody("hold", 0), nil); got <- err }()
		synctest.Wait()
		b.stop()
		time.Sleep(time.Second)
		if _, err := freer.Call(t.Context(), callBody("free", 0), nil); err != nil {
			t.Error(err)
		}
		if err := <-got; err != nil {
			t.Errorf("got %v, want the result", err)
		}
	})
}

func TestCancelledCallReturnsAtOnceAndItsSlotWhenTheWorkerAnswers(t *testing.T) {
	inBubble(t, Config{}, []string{"slots 1"}, func(t *testing.T, b *bench) {
		s := b.take(0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		_, err := s.Call(ctx, callBody("hold", 0), nil)
		if err != ctx.Err() || time.Since(began) != time.Second {
			t.Errorf("got %v after %v, want the deadline after 1s", err, time.Since(began))
		}
		s.Release()
		synctest.Wait()
		if b.Free() != 1 || b.state(0) != Idle {
			t.Errorf("got %d free, %s; want the slot back", b.Free(), b.state(0))
		}
		if want := []string{"busy>cancelling", "cancelling>busy"}; !containsRow(b.seen("h/1"), want) {
			t.Errorf("got %v, want %v in it", b.seen("h/1"), want)
		}
		if b.take(0).WorkerID() != s.WorkerID() {
			t.Error("the worker was replaced")
		}
	})
}

func containsRow(all, row []string) bool {
	for i := range all {
		if len(all)-i >= len(row) && slices.Equal(all[i:i+len(row)], row) {
			return true
		}
	}
	return false
}

func TestWorkerWhoseEndIsKnownLateKeepsItsExitCode(t *testing.T) {
	inBubble(t, Config{}, nil, func(t *testing.T, b *bench) {
		for ms, want := range map[int]int{2900: 7, 3100: -1} {
			s := b.take(0)
			_, err := s.Call(t.Context(), callBody("end slowly", ms), nil)
			s.Release()
			exit, ok := errors.AsType[*ExitError](err)
			protocol, blamed := errors.AsType[*ProtocolError](err)
			if !ok || exit.Code != want || blamed != (want < 0) {
				t.Errorf("%d ms: %v, %v", ms, err, protocol)
			}
		}
	})
}

func TestWorkerThatIgnoresCancelIsKilledAfterTheGrace(t *testing.T) {
	inBubble(t, Config{}, nil, func(t *testing.T, b *bench) {
		s, other := b.take(0), b.take(0)
		collateral := make(chan error, 1)
		go func() { _, err := other.Call(t.Context(), callBody("hold", 0), nil); collateral <- err }()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := s.Call(ctx, callBody("deaf", 0), nil)
		if err != ctx.Err() {
			t.Errorf("got %v, want the deadline", err)
		}
		s.Release()
		if _, err := s.Call(t.Context(), callBody("echo", 0), nil); !errors.Is(err, ErrInUse) {
			t.Errorf("got %v, want ErrInUse", err)
		}
		began := time.Now()
		err = <-collateral
		var exit *ExitError
		var hung *HungError
		switch {
		case !errors.As(err, &exit):
			t.Errorf("must hold: errors.As(err, &exit); got %v, want an exit by SIGKILL while cancelling, because it is hung", err)
		case !errors.As(err, &hung):
			t.Errorf("must hold: errors.As(err, &hung); got %v, want an exit by SIGKILL while cancelling, because it is hung", err)
		case exit.Signal != syscall.SIGKILL:
			t.Errorf("exit.Signal must be syscall.SIGKILL, got %v; got %v, want an exit by SIGKILL while cancelling, because it is hung", exit.Signal, err)
		case exit.Stage != Cancelling:
			t.Errorf("exit.Stage must be Cancelling, got %v; got %v, want an exit by SIGKILL while cancelling, because it is hung", exit.Stage, err)
		}
		if took := time.Since(began); took != cancelGrace+proc.DumpQuiet {
			t.Errorf("killed after %v, want %v", took, cancelGrace+proc.DumpQuiet)
		}
		if want := "Current thread 0x00007f9a4367eb80\n  selectors.py:468 in select\n"; !containsText(hung.Stack, want) || !containsText(err.Error(), "it is at runner.py:7 in dig") {
			t.Errorf("got %v with stack %q, want the frames", err, hung.Stack)
		}
		if want := []string{"cancelling>dumping", "dumping>killing"}; !containsRow(b.seen("h/1"), want) {
			t.Errorf("got %v, want %v in it", b.seen("h/1"), want)
		}
		other.Release()
		if n := b.take(0); n.WorkerID() == s.WorkerID() {
			t.Error("expected a new worker")
		}
	})
}

func TestSilentWorkerIsKilledWhenPongIsLost(t *testing.T) {
	inBubble(t, Config{}, []string{"no pong", ""}, func(t *testing.T, b *bench) {
		s := b.take(0)
		began := time.Now()
		_, err := s.Call(t.Context(), callBody("hold", 0), nil)
		var hung *HungError
		if !errors.As(err, &hung) || hung.For != "PONG" {
			t.Errorf("got %v, want a lost PONG", err)
		}
		if took := time.Since(began); took < 10*time.Second || took > 12*time.Second+proc.DumpTimeout || hung.Stack != "" {
			t.Errorf("killed after %v, want 10s to 12s", took)
		}
		s.Release()
		s = b.take(0)
		go s.Call(t.Context(), callBody("hold", 0), nil)
		time.Sleep(time.Hour)
		if st := b.Stats().Workers[0]; st.State != Busy || st.RSS != 4711 || st.Restarts != 1 {
			t.Errorf("a worker that answers PING for an hour: got %+v", st)
		}
	})
}

func TestStartsThatFailSayWhy(t *testing.T) {
	for mode, want := range map[string]struct {
		stage State
		text  string
		after time.Duration // at which Ready is closed
	}{
		"cannot start":  {Spawning, "no such file", 0},
		"exit at once":  {Handshake, "No module named 'dspy'", 0},
		"silent":        {Handshake, "HELLO did not come within 5s", handshakeTimeout},
		"chatter":       {Handshake, "magic", 0},
		"newer":         {Handshake, "has 2 to 3", 0},
		"wrong nonce":   {Handshake, "DSPEX_NONCE", 0},
		"init error":    {Warming, "initialization (import_failed): no module named dspy", 0},
		"never ready":   {Warming, "READY did not come within 1m0s, it is at runner.py:7 in dig", time.Minute + proc.DumpQuiet},
		"die on init":   {Warming, "exited with status 4", 0},
		"slots 0":       {Warming, "1 to 1024 slots", 0},
		"slots 1000000": {Warming, "1 to 1024 slots", 0},
	} {
		t.Run(mode, func(t *testing.T) {
			inBubble(t, Config{Size: 2}, []string{mode}, func(t *testing.T, b *bench) {
				began := time.Now()
				err := b.Ready(t.Context())
				var start *StartError
				if !errors.As(err, &start) || start.Stage != want.stage || !containsText(err.Error(), want.text) {
					t.Errorf("got %v\nwant stage %s and %q", err, want.stage, want.text)
				}
				if took := time.Since(began); took != want.after {
					t.Errorf("known after %v, want %v", took, want.after)
				}
				if !containsText(err.Error(), "h/1") || !containsText(err.Error(), "h/2") {
					t.Errorf("got %v, want both workers named", err)
				}
			})
		})
	}
}

func TestReadyNeedsOnlyOneWorker(t *testing.T) {
	inBubble(t, Config{Size: 2}, []string{"die on init", ""}, func(t *testing.T, b *bench) {
		if err := b.Ready(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestQuarantineFailsCheckoutFastUntilAStartSucceeds(t *testing.T) {
	modes := []string{"die on init", "die on init", "die on init", "die on init", "die on init", "die on init", ""}
	inBubble(t, Config{}, modes, func(t *testing.T, b *bench) {
		began := time.Now()
		_, err := b.Checkout(t.Context(), 0) // waits through the back-off, fails with the fifth start
		var away *UnavailableError
		if !errors.As(err, &away) || !containsText(err.Error(), "out of luck") || away.RetryAfter != 30*time.Second {
			t.Fatalf("got %v, want unavailable for 30s with the last line on stderr", err)
		}
		if took := time.Since(began); took < 1200*time.Millisecond || took > 1800*time.Millisecond {
			t.Errorf("took %v, want 1.5s of back-off +-20%%", took)
		}
		time.Sleep(10 * time.Second)
		_, err = b.Checkout(t.Context(), 0)
		if !errors.As(err, &away) || away.RetryAfter != 20*time.Second {
			t.Errorf("got %v, want unavailable for 20s", err)
		}
		time.Sleep(30 * time.Second) // the probe at 30 s fails: quarantine again
		if _, err = b.Checkout(t.Context(), 0); !errors.As(err, &away) || b.state(0) != Quarantined {
			t.Errorf("got %v, %s; want quarantine", err, b.state(0))
		}
		time.Sleep(21 * time.Second)
		if _, err = b.Checkout(t.Context(), 0); err != nil {
			t.Errorf("after a good start: %v", err)
		}
	})
}

func TestCheckoutWaitsWhileOnePlaceGivesHope(t *testing.T) {
	modes := []string{"newer", "never ready", "", ""}
	inBubble(t, Config{Size: 2}, modes, func(t *testing.T, b *bench) {
		states := []State{b.state(0), b.state(1)}
		slices.Sort(states)
		if !slices.Equal(states, []State{Warming, Quarantined}) {
			t.Fatalf("got %v, want one in quarantine and one warming", states)
		}
		if _, err := b.Checkout(t.Context(), 0); err != nil {
			t.Error(err)
		}
	})
}

func TestWorkerThatSaysByeFinishesItsCallsAndIsReplaced(t *testing.T) {
	inBubble(t, Config{}, nil, func(t *testing.T, b *bench) {
		held, leaver, freer := b.take(0), b.take(0), b.take(0)
		got := make(chan error, 1)
		go func() { _, err := held.Call(t.Context(), callBody("hold", 0), nil); held.Release(); got <- err }()
		synctest.Wait()
		if _, err := leaver.Call(t.Context(), callBody("bye", 0), nil); err != nil {
			t.Error(err)
		}
		leaver.Release()
		synctest.Wait()
		if b.state(0) != Draining || b.Free() != 4 {
			t.Errorf("got %s with %d free, want draining and the 4 of its replacement", b.state(0), b.Free())
		}
		if _, err := freer.Call(t.Context(), callBody("free", 0), nil); err != nil {
			t.Error(err)
		}
		freer.Release()
		if err := <-got; err != nil {
			t.Errorf("got %v, want the result", err)
		}
		if s := b.take(0); s.WorkerID() == held.WorkerID() {
			t.Error("expected a new worker")
		}
		if st := b.Stats().Workers[0]; st.LastError != "" {
			t.Errorf("a polite end is no error, got %q", st.LastError)
		}
	})
}

func TestPlaceOfAWorkerThatDoesNotDieIsFilledAgainAndRunWaitsForIt(t *testing.T) {
	inBubble(t, Config{}, nil, func(t *testing.T, b *bench) {
		b.fake.immortal = true
		s := b.take(0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s.Call(ctx, callBody("deaf", 0), nil)
		s.Release()
		time.Sleep(cancelGrace + reapTimeout + time.Second)
		next := b.take(0)
		if next.WorkerID() == s.WorkerID() {
			t.Error("expected a new worker")
		}
		b.fake.mu.Lock()
		b.fake.immortal = false
		b.fake.mu.Unlock()
		b.stop()
		time.Sleep(time.Minute)
		if proc.IsClosed(b.ended) {
			t.Error("Run returned before the old process was reaped")
		}
		close(b.fake.release)
		<-b.ended
	})
}

func TestSlowReaderOfPartialsLosesSomeAndHoldsUpNobody(t *testing.T) {
	inBubble(t, Config{}, nil, func(t *testing.T, b *bench) {
		s, other := b.take(0), b.take(0)
		const sent = 5000
		seen, slow := 0, make(chan struct{})
		done := make(chan error, 1)
		go func() {
			_, err := s.Call(t.Context(), callBody("chunks", sent), func([]byte) {
				seen++
				<-slow
			})
			done <- err
		}()
		time.Sleep(time.Minute) // PINGs are answered meanwhile, or the worker would be killed
		if _, err := other.Call(t.Context(), callBody("echo", 0), nil); err != nil {
			t.Error(err)
		}
		close(slow)
		if err := <-done; err != nil {
			t.Error(err)
		}
		// What the reader held, what it had taken with it, and one queue more.
		if dropped := int(b.Stats().Workers[0].PartialsDropped); seen+dropped != sent || seen < maxPartials || seen > 2*maxPartials+1 {
			t.Errorf("seen %d, dropped %d of %d; want about %d seen and the rest counted", seen, dropped, sent, maxPartials)
		}
		s.Release()
		s = b.take(0)
		if _, err := s.Call(t.Context(), callBody("chunks", sent), nil); err != nil {
			t.Errorf("nobody wants the chunks: %v", err)
		}
	})
}

func TestPartialsComeInOrderBeforeTheResult(t *testing.T) {
	inBubble(t, Config{}, nil, func(t *testing.T, b *bench) {
		s := b.take(0)
		var got []uint64
		_, err := s.Call(t.Context(), callBody("chunks", 500), func(body []byte) {
			c, err := frame.ParseChunk(body)
			if err != nil {
				t.Error(err)
			}
			got = append(got, c.N)
		})
		if err != nil || len(got) != 500 || !slices.IsSorted(got) {
			t.Errorf("got %d chunks, sorted %v, %v; want 500 in order", len(got), slices.IsSorted(got), err)
		}
	})
}

func TestTooLargeBodyIsRefusedBeforeItIsSent(t *testing.T) {
	inBubble(t, Config{MaxFrame: 1000}, nil, func(t *testing.T, b *bench) {
		s := b.take(0)
		var large *TooLargeError
		if _, err := s.Call(t.Context(), make([]byte, 1001), nil); !errors.As(err, &large) || large.Size != 1001 || large.Max != 1000 {
			t.Errorf("Call: got %v", err)
		}
		if err := s.Send(frame.LM, make([]byte, 1001)); !errors.As(err, &large) {
			t.Errorf("Tell: got %v", err)
		}
		if _, err := s.Call(t.Context(), callBody("echo", 0), nil); err != nil {
			t.Errorf("the slot is good still: %v", err)
		}
	})
}
