package devserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/stream"
)

type broker struct {
	*server.Server
	stop func()
}

// Broker starts an embedded nats-server with JetStream on disk. An empty dir is a temporary one.
func Broker(listen, dir string) (*broker, error) {
	name, port, err := splitListen(listen)
	if err != nil {
		return nil, err
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	var remove func()
	if dir == "" {
		if dir, err = os.MkdirTemp("", "dspex-dev-"); err != nil {
			return nil, err
		}
		remove = func() { _ = os.RemoveAll(dir) }
	} else if remove, err = claim(dir); err != nil {
		return nil, err
	}
	s, err := server.NewServer(&server.Options{ServerName: "dspex-dev", Host: name, Port: port, JetStream: true, StoreDir: dir,
		NoSigs: true, NoLog: true, PingInterval: 2 * time.Second, MaxPingsOut: 2})
	if err != nil {
		remove()
		return nil, fmt.Errorf("broker: %w", err)
	}
	s.Start()
	stop := func() { s.Shutdown(); s.WaitForShutdown(); remove() }
	if !s.ReadyForConnections(10 * time.Second) {
		stop()
		return nil, portTaken(listen, errors.New("it did not start to listen"))
	}
	return &broker{Server: s, stop: stop}, nil
}

// Room on the disk: the broker takes at most three quarters of what is free.
const (
	leastRoom = 256 << 20
	mostJobs  = 4 << 30 // stream.Settings' own default
)

// settings fit the streams into the broker's room, where less is free than they have by default.
func (b *broker) settings() (stream.Settings, error) {
	room := b.JetStreamConfig().MaxStore
	if room < leastRoom {
		return stream.Settings{}, fmt.Errorf("%s has room for %d MiB, expected at least %d: free some of the disk, or choose another place with --dir",
			b.JetStreamConfig().StoreDir, room>>20, leastRoom>>20)
	}
	unit := min(mostJobs, room/5) // two streams of jobs, the results, a quarter for dead letters; the rest for events and records
	return stream.Settings{JobsBytes: unit, ResultsBytes: unit, DeadBytes: unit / 4}, nil
}

// ensure makes the broker objects that are missing.
func (b *broker) ensure(ctx context.Context, js jetstream.JetStream) error {
	s, err := b.settings()
	if err == nil {
		_, err = stream.Ensure(ctx, js, s)
	}
	return err
}

func splitListen(listen string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fmt.Errorf("--listen must be HOST:PORT, got %q", listen)
	}
	port, err = strconv.Atoi(text)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("--listen must have a port from 0 to 65535, got %q", listen)
	}
	return host, port, nil
}

// isFree reports why the broker could not listen there.
func isFree(listen string) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return portTaken(listen, err)
	}
	return l.Close()
}

func portTaken(listen string, err error) error {
	return fmt.Errorf("the broker cannot listen on %s: %w\nIf another dspex dev or NATS server runs there, use it, or name another address: --listen 127.0.0.1:0 takes a free port", listen, err)
}
