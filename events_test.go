package dspex_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/natstest"
)

// eventsOf follows events while publish is repeated, until that many of them have come.
func eventsOf(t *testing.T, f dspex.EventFilter, want int, publish func(*nats.Conn) error) (names []string) {
	t.Helper()
	s := natstest.Run(t)
	sender := natstest.Connect(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c := dspex.New(natstest.Connect(t, s))
	go func() { // until the subscription is there
		for ctx.Err() == nil {
			if err := errors.Join(publish(sender), sender.Flush()); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	}()
	for e, err := range c.Admin().Events(ctx, f) {
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(names, e.Name) {
			names = append(names, e.Name)
		}
		if len(names) == want {
			break
		}
	}
	slices.Sort(names)
	return names
}

func publishBoth(nc *nats.Conn) error {
	for subject, name := range map[string]string{"dspex.telemetry.session_pool.execute": "dspex.session_pool.execute", "dspex.events.breaker.opened": "dspex.circuit_breaker.opened"} {
		if err := nc.Publish(subject, fmt.Appendf(nil, `{"event": %q, "at": "2026-01-02T03:04:05Z"}`, name)); err != nil {
			return err
		}
	}
	return nil
}

func TestEventsAreFollowed(t *testing.T) {
	equal(t, "names", fmt.Sprint(eventsOf(t, dspex.EventFilter{}, 1, publishBoth)), "[dspex.circuit_breaker.opened]")
}

func TestAttemptsAreEventsForThoseWhoWantThem(t *testing.T) {
	equal(t, "names", fmt.Sprint(eventsOf(t, dspex.EventFilter{Attempts: true}, 2, publishBoth)), "[dspex.circuit_breaker.opened dspex.session_pool.execute]")
}

func TestAnEventThatIsNoJSONIsAnError(t *testing.T) {
	s := natstest.Run(t)
	sender := natstest.Connect(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			_ = errors.Join(sender.Publish("dspex.events.breaker.opened", []byte("{")), sender.Flush())
		}
	}()
	for _, err := range dspex.New(natstest.Connect(t, s)).Admin().Events(ctx, dspex.EventFilter{}) {
		failsWith(t, "no JSON", err, "bad_reply")
		return
	}
	t.Fatal("nothing came")
}

func TestEventsThatCameTooFastAreCounted(t *testing.T) {
	s := natstest.Run(t)
	sender := natstest.Connect(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	burst := func(n int) error {
		for range n {
			if err := sender.Publish("dspex.events.breaker.opened", []byte(`{"event": "dspex.circuit_breaker.opened"}`)); err != nil {
				return err
			}
		}
		return sender.Flush()
	}
	go func() { // until the subscription is there
		for ctx.Err() == nil {
			_ = burst(1)
		}
	}()
	for e, err := range dspex.New(natstest.Connect(t, s)).Admin().Events(ctx, dspex.EventFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Lost > 0 {
			return
		}
		if err := burst(5000); err != nil && ctx.Err() == nil { // more than wait for a slow caller
			t.Fatal(err)
		}
	}
	t.Fatal("nothing was counted as lost")
}

// A connection closes for good when its credentials are refused twice, or by its program.
func TestWhoFollowsEndsWithItsConnection(t *testing.T) {
	s := natstest.Run(t)
	log := logging(t, s, "worker-host", "h1")
	log.Info("one")
	for name, follow := range map[string]func(context.Context, *dspex.Client, func()) error{
		"logs": func(ctx context.Context, c *dspex.Client, end func()) (last error) {
			for _, err := range c.Admin().Logs(ctx, dspex.LogFilter{Tail: 1, Follow: true}) {
				last = err
				end()
			}
			return last
		},
		"events": func(ctx context.Context, c *dspex.Client, end func()) (last error) {
			time.AfterFunc(0, end)
			for _, err := range c.Admin().Events(ctx, dspex.EventFilter{}) {
				last = err
			}
			return last
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			nc := natstest.Connect(t, s)
			err := follow(ctx, dspex.New(nc), nc.Close)
			if !errors.Is(err, dspex.ErrConnection) || ctx.Err() != nil {
				t.Errorf("it must end with an error of the connection, got %v (%v)", err, ctx.Err())
			}
		})
	}
}
