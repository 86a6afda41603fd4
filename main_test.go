package dspex_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/natstest"
)

// exampleURL is a broker with a stand-in for dspex behind it, for the examples.
var exampleURL string

// connected is the client of the examples.
var connected *dspex.Client

// exampleClient is a client that is connected: see the example of the package.
func exampleClient() *dspex.Client { return connected }

// conn is a connection to the broker of the examples.
var conn *nats.Conn

// exampleConn is a connection that the program of an example has anyway.
func exampleConn() *nats.Conn { return conn }

// openBreakers publishes events of circuit breakers that open, until the context ends: a subscription gets those that come after it.
func openBreakers(ctx context.Context) {
	go func() {
		for ctx.Err() == nil {
			_ = conn.Publish("dspex.events.breaker.opened", []byte(`{"event":"dspex.circuit_breaker.opened","at":"2026-01-02T03:04:05Z"}`))
			_ = conn.FlushWithContext(ctx) // fails when the example is over
		}
	}()
}

// oneHostLogs answers requests for logs, until the context ends.
func oneHostLogs(ctx context.Context) {
	sub, err := conn.Subscribe("dspex.logs.get", func(m *nats.Msg) {
		_ = m.Respond([]byte(`{"process":"worker-host","name":"h1","lines":[{"at":"2026-01-02T03:04:05Z","level":"info","message":"worker_output","process":"worker-host","name":"h1","fields":{"worker":"h1/0","text":"hello"}}]}`))
	})
	must(err)
	must(conn.Flush())
	context.AfterFunc(ctx, func() { _ = sub.Unsubscribe() })
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "dspex-examples")
	must(err)
	defer os.RemoveAll(dir)
	s, err := natstest.Start(dir, func(o *server.Options) { o.JetStreamDomain = "hub" })
	must(err)
	defer s.WaitForShutdown()
	defer s.Shutdown()
	nc, err := nats.Connect(s.ClientURL())
	must(err)
	defer nc.Close()
	fake, err := natstest.NewFake(context.Background(), nc)
	must(err)
	defer fake.Release()
	exampleURL = s.ClientURL()
	conn = nc
	_, err = nc.Subscribe("prod.dspex.rpc.>", func(m *nats.Msg) { // as an account with a prefix has it
		_ = nc.PublishMsg(&nats.Msg{Subject: strings.TrimPrefix(m.Subject, "prod."), Reply: m.Reply, Header: m.Header, Data: m.Data})
	})
	must(err)
	connected, err = dspex.Connect(context.Background(), exampleURL)
	must(err)
	defer connected.Close()
	return m.Run()
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// start gives a test a broker, a fake and a client of its own.
func start(t *testing.T) (*dspex.Client, *natstest.Fake) {
	t.Helper()
	s := natstest.Run(t)
	fake := natstest.StartFake(t, s)
	c, err := dspex.Connect(t.Context(), s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, fake
}

// equal reports a value that is another one than expected.
func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

// failsWith reports an error that is no *Error of this code, and returns it.
func failsWith(t *testing.T, what string, err error, code string) *dspex.Error {
	t.Helper()
	e, ok := errors.AsType[*dspex.Error](err)
	if !ok || e.Code != code {
		t.Errorf("%s: got %v, want an error of the code %s", what, err, code)
		return &dspex.Error{}
	}
	return e
}

// is reports an error that does not match target.
func is(t *testing.T, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("%s: got %v, want one that matches %v", what, err, target)
	}
}
