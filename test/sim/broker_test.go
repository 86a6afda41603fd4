package sim

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// broker is the one nats-server and the cables that lead to it.
type broker struct {
	dir   string // of all its stores; each kill starts the next one from a copy
	store int
	srv   atomic.Pointer[server.Server] // nil while it is down
	maps  bool                          // what is published for the tenant default, as nats.conf does
	onUp  func(*server.Server) error    // connects the tap, before anybody else can dial

	mu     sync.Mutex
	cables []*cable
}

// maxPayload is small, so that what must fit does not cost much.
const maxPayload = 64 << 10

// start brings the broker up on its present directory. The settings are those of nats.conf.
func (b *broker) start() error {
	s, err := server.NewServer(&server.Options{
		ServerName: "sim", DontListen: true, NoLog: true, NoSigs: true, JetStream: true, StoreDir: b.storeDir(),
		JetStreamMaxMemory: 64 << 20, JetStreamMaxStore: 32 << 30, SyncAlways: true, PingInterval: 2 * time.Second, MaxPingsOut: 2,
		MaxPayload: maxPayload,
	})
	if err != nil {
		return fmt.Errorf("making a broker: %w", err)
	}
	for _, kind := range []string{"session", "call"} {
		if b.maps {
			if err := s.GlobalAccount().AddMapping("dspex."+kind+".*", "dspex.t.default."+kind+".$1"); err != nil {
				return fmt.Errorf("mapping subjects: %w", err)
			}
		}
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		return fmt.Errorf("the broker is not ready")
	}
	if err := b.onUp(s); err != nil {
		return err
	}
	b.srv.Store(s)
	return nil
}

func (b *broker) storeDir() string { return filepath.Join(b.dir, fmt.Sprint(b.store)) }

// halt takes the broker out of reach and waits until all that it has received is done and seen by the tap. Nothing that it
// answers from here on reaches anybody.
func (b *broker) halt() (*server.Server, []*cable) {
	s := b.srv.Swap(nil)
	if s == nil {
		return nil, nil
	}
	cables := b.all()
	for _, c := range cables {
		c.partition(true, true)
	}
	synctest.Wait()
	return s, cables
}

// stop shuts the broker down in order.
func (b *broker) stop() {
	if s, cables := b.halt(); s != nil {
		shut(s, cables)
	}
}

// kill ends the broker as SIGKILL does: what is started next finds the files as they were at that moment.
func (b *broker) kill() error {
	s, cables := b.halt()
	if s == nil {
		return nil
	}
	old := b.storeDir()
	b.store++
	if err := os.CopyFS(b.storeDir(), os.DirFS(old)); err != nil {
		return fmt.Errorf("copying the broker's files: %w", err)
	}
	shut(s, cables)
	return os.RemoveAll(old)
}

func shut(s *server.Server, cables []*cable) {
	for _, c := range cables {
		c.drop()
		c.heal(true, true)
	}
	s.Shutdown()
	s.WaitForShutdown()
}

// cable lays a new cable.
func (b *broker) cable(c *cable) *cable {
	c.srv = &b.srv
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cables = append(b.cables, c)
	return c
}

func (b *broker) all() []*cable {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.cables)
}
