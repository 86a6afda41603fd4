package dspex_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/natstest"
)

// exampleURL is a broker with a stand-in for dspex behind it, for the examples.
var exampleURL string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "dspex-examples")
	must(err)
	defer os.RemoveAll(dir)
	s, err := natstest.Start(dir)
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
