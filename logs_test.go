package dspex_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/logfeed"
	"github.com/dspex/dspex/internal/natstest"
)

// logging runs a process that has nothing but a log.
func logging(t *testing.T, s *server.Server, process, name string) *slog.Logger {
	t.Helper()
	nc := natstest.Connect(t, s)
	feed := logfeed.New(process, name)
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- feed.Serve(ctx, nc) }()
	t.Cleanup(func() {
		cancel()
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
	for nc.NumSubscriptions() == 0 || nc.Flush() != nil {
		if t.Context().Err() != nil {
			t.Fatal("it does not subscribe")
		}
	}
	return slog.New(feed.Handler(slog.NewTextHandler(io.Discard, nil))) //nolint:sloglint // the discarding one takes no level
}

func logsOf(ctx context.Context, t *testing.T, c *dspex.Client, f dspex.LogFilter) (all []string) {
	t.Helper()
	for l, err := range c.Admin().Logs(ctx, f) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, l.Name+" "+l.Message)
	}
	return all
}

func TestTheLastLinesOfAllProcessesAreInOrder(t *testing.T) {
	s := natstest.Run(t)
	host, dispatcher := logging(t, s, "worker-host", "h1"), logging(t, s, "dispatcher", "d1")
	host.Info("one", "session", "s1", "job", "j1")
	dispatcher.Warn("two", "session", "acme/s1", "job", "j1")
	host.Error("three", "session", "s1", "text", "Some Thing")
	c := dspex.New(natstest.Connect(t, s))
	for _, row := range []struct {
		f    dspex.LogFilter
		want string
	}{
		{dspex.LogFilter{Tail: 9}, "[h1 one d1 two h1 three]"},
		{dspex.LogFilter{Tail: 2}, "[d1 two h1 three]"},
		{dspex.LogFilter{}, "[]"},
		{dspex.LogFilter{Tail: 9, Level: "warn"}, "[d1 two h1 three]"},
		{dspex.LogFilter{Tail: 9, Process: "dispatcher"}, "[d1 two]"},
		{dspex.LogFilter{Tail: 9, Name: "h1"}, "[h1 one h1 three]"},
		{dspex.LogFilter{Tail: 1, Session: "s1"}, "[h1 three]"},
		{dspex.LogFilter{Tail: 1, Job: "j1", Session: "s1"}, "[h1 one]"},
		{dspex.LogFilter{Tail: 9, Text: "some thing"}, "[h1 three]"},
	} {
		equal(t, fmt.Sprintf("%+v", row.f), fmt.Sprint(logsOf(t.Context(), t, c, row.f)), row.want)
	}
	for l, err := range c.Admin().Logs(t.Context(), dspex.LogFilter{Tail: 1}) {
		if err != nil {
			t.Error(err)
		}
		equal(t, "text", l.Field("text"), "Some Thing")
		equal(t, "none", l.Field("none"), "")
		equal(t, "first field", l.Fields[0].Key, "session")
		equal(t, "level", l.Level, "error")
		equal(t, "process", l.Process, "worker-host")
	}
}

func TestLogsAreFollowedAndNoLineComesTwice(t *testing.T) {
	s := natstest.Run(t)
	host := logging(t, s, "worker-host", "h1")
	host.Info("before")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var got []string
	for l, err := range dspex.New(natstest.Connect(t, s)).Admin().Logs(ctx, dspex.LogFilter{Tail: 5, Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, l.Message); len(got) == 3 {
			break
		}
		host.Info(fmt.Sprint("after", len(got))) //nolint:sloglint // told apart by it
	}
	equal(t, "lines", fmt.Sprint(got), "[before after1 after2]")
	for range dspex.New(natstest.Connect(t, s)).Admin().Logs(ctx, dspex.LogFilter{Tail: 5}) {
		break // whoever has seen enough may end it
	}
}

func TestLogsThatNobodyHasAreAnError(t *testing.T) {
	c := dspex.New(natstest.Connect(t, natstest.Run(t)))
	for _, err := range c.Admin().Logs(t.Context(), dspex.LogFilter{Tail: 5}) {
		failsWith(t, "nobody", err, "pool_not_available")
	}
	for _, err := range c.Admin().Logs(t.Context(), dspex.LogFilter{Level: "loud"}) {
		is(t, "a level", err, dspex.ErrInvalid)
	}
}
