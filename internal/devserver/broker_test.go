package devserver

import (
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

// small is a broker that has so much room on its disk.
func small(t *testing.T, room int64) (*broker, jetstream.JetStream) {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(),
		JetStreamMaxStore: room, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	nc, err := connect(s, "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return &broker{now: s}, js
}

func TestTheStreamsFitIntoWhatIsFree(t *testing.T) {
	for _, room := range []int64{leastRoom, 1 << 30, 20 << 30} {
		b, js := small(t, room)
		if err := b.ensure(t.Context(), js); err != nil {
			t.Errorf("%d MiB: %v", room>>20, err)
		}
		if s, err := b.settings(); err != nil || room == 20<<30 && s.JobsBytes != mostJobs {
			t.Errorf("%d MiB: %+v, %v", room>>20, s, err)
		}
	}
}

func TestAFullDiskIsNamed(t *testing.T) {
	b, js := small(t, leastRoom-1)
	if err := b.ensure(t.Context(), js); err == nil || !strings.Contains(err.Error(), "--dir") || !strings.Contains(err.Error(), "at least 256") {
		t.Errorf("%v", err)
	}
}
