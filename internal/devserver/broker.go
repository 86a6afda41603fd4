package devserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/stream"
)

// broker is the embedded nats-server, which can be started again under the connections to it.
type broker struct {
	options *server.Options
	release func() // of the directory

	mu  sync.Mutex
	now *server.Server
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
	b := &broker{release: remove, options: &server.Options{ServerName: "dspex-dev", Host: name, Port: port, JetStream: true, StoreDir: dir,
		NoSigs: true, NoLog: true, PingInterval: 2 * time.Second, MaxPingsOut: 2,
		MaxPending: 64 << 20, NoFastProducerStall: true, WriteDeadline: 10 * time.Second, StreamMaxBufferedSize: 32 << 20}} // nats.conf has the reason
	if err := b.start(); err != nil {
		remove()
		return nil, portTaken(listen, err)
	}
	// What comes after it is to be found where this one was, with the same room.
	b.options.Port, b.options.JetStreamMaxStore = b.now.Addr().(*net.TCPAddr).Port, b.now.JetStreamConfig().MaxStore
	return b, nil
}

func (b *broker) start() error {
	s, err := server.NewServer(b.options.Clone())
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		shut(s)
		return errors.New("it did not start to listen")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = s
	return nil
}

func shut(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

func (b *broker) server() *server.Server {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

func (b *broker) stop() {
	shut(b.server())
	b.release()
}

// restart starts the broker again on its data. Connections come back by themselves.
func (b *broker) restart() error {
	shut(b.server())
	return b.start()
}

// InProcessConn connects to the broker of the moment.
func (b *broker) InProcessConn() (net.Conn, error) { return b.server().InProcessConn() }

// A nats-server that met a full disk stores nothing until it is started again, also when there is room.
const (
	roomPause = time.Second // between two looks
	roomAgain = 64 << 20    // free on the disk: less would be full again at once
	roomTrial = time.Minute // after a restart, until it is known what that has done
)

// recover starts the broker again when it stores nothing though there is room, until ctx ends.
func (b *broker) recover(ctx context.Context, blocked func() bool, log *slog.Logger) {
	tick := time.NewTicker(roomPause)
	defer tick.Stop()
	for trial := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if time.Now().Before(trial) {
			continue
		}
		if room, err := freeOn(b.options.StoreDir); !blocked() || err != nil || room < roomAgain {
			continue
		}
		if err := b.restart(); err != nil {
			log.Error("broker_not_restarted", "error", err)
			continue
		}
		trial = time.Now().Add(roomTrial)
		log.Warn("broker_restarted", "hint", "its disk was full and has room again")
	}
}

// Room on the disk: the broker takes at most three quarters of what is free.
const (
	leastRoom = 256 << 20
	otherRoom = 72 << 20 // events and small buckets
	mostJobs  = 4 << 30  // stream.Settings' own default
)

// settings fit the streams into the broker's room, where less is free than they have by default.
func (b *broker) settings() (stream.Settings, error) {
	room := b.server().JetStreamConfig().MaxStore
	if room < leastRoom {
		return stream.Settings{}, fmt.Errorf("%s must have room for at least %d MiB, got %d: free some of the disk, or choose another place with --dir",
			b.server().JetStreamConfig().StoreDir, leastRoom>>20, room>>20)
	}
	unit := min(mostJobs, room/5, 8*(room-otherRoom)/33) // two streams of jobs, the results, a half for batches, a quarter each for dead letters and objects, an eighth for the audit trail; the rest for events and records
	return stream.Settings{JobsBytes: unit, ResultsBytes: unit, DeadBytes: unit / 4, BatchBytes: unit / 2, ObjectBytes: unit / 4, AuditBytes: min(256<<20, unit/8)}, nil
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
