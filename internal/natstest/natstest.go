// Package natstest starts brokers for tests: a real nats-server with JetStream inside the test's process. It also has a small
// stand-in for a whole dspex behind it (Fake), for tests of its clients. It is for tests only.
package natstest

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// ready bounds the start of a broker, which takes milliseconds; a broker that is not up by then will not come.
const ready = 30 * time.Second

// Start starts a broker on a free port of the loopback interface, with JetStream in dir; the caller shuts it down. Tests use
// Run.
func Start(dir string, more ...func(*server.Options)) (*server.Server, error) {
	options := &server.Options{
		ServerName: "test", Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: dir, JetStreamMaxMemory: 1 << 30, JetStreamMaxStore: 8 << 30,
	}
	for _, set := range more {
		set(options)
	}
	s, err := server.NewServer(options)
	if err != nil {
		return nil, fmt.Errorf("making a broker: %w", err)
	}
	s.Start()
	if !s.ReadyForConnections(ready) {
		s.Shutdown()
		return nil, fmt.Errorf("the broker is not ready after %v", ready)
	}
	return s, nil
}

// Run starts a broker in a directory of the test and stops it at the test's end.
func Run(t testing.TB, more ...func(*server.Options)) *server.Server {
	t.Helper()
	s, err := Start(t.TempDir(), more...)
	check(t, err)
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	return s
}

// Nobody is the URL of a broker that has gone: nothing listens there.
func Nobody(t testing.TB) string {
	t.Helper()
	s := Run(t)
	s.Shutdown()
	s.WaitForShutdown()
	return s.ClientURL()
}

// Connect connects to a broker and closes the connection at the test's end.
func Connect(t testing.TB, s *server.Server, options ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(s.ClientURL(), options...)
	check(t, err)
	t.Cleanup(nc.Close)
	return nc
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
