package stream

import (
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func TestEnsureIsContentWithWhatIsThereAlsoWhereThereIsNoRoomTwice(t *testing.T) {
	const room = 7*(64<<20) + eventsBytes + 1<<20 // jobs twice, results, batches, objects, dead letters, audit trail, events, and a little for what reserves nothing
	s, err := server.NewServer(&server.Options{DontListen: true, NoLog: true, NoSigs: true, JetStream: true, StoreDir: t.TempDir(), JetStreamMaxStore: room})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	defer s.WaitForShutdown()
	defer s.Shutdown()
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if n, err := Ensure(t.Context(), js, Settings{Partitions: 4, JobsBytes: 64 << 20, ResultsBytes: 64 << 20, DeadBytes: 64 << 20, AuditBytes: 64 << 20, BatchBytes: 64 << 20, ObjectBytes: 64 << 20}); err != nil || n != 4 {
			t.Fatal(n, err)
		}
	}
	if n, err := Ensure(t.Context(), js, Settings{Partitions: 8}); err != nil || n != 4 {
		t.Errorf("a deployment of 4 partitions has %d, %v", n, err)
	}
}
