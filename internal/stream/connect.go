package stream

import (
	"time"

	"github.com/nats-io/nats.go"
)

// ConnectOptions are those of every dspex process. What a process says while it is cut off fails at once instead of being
// sent later, when it may be stale; and a dead connection is noticed within 6 s, sooner than anything is delivered again.
func ConnectOptions(name string) []nats.Option {
	return []nats.Option{
		nats.Name(name), nats.ReconnectBufSize(-1), nats.MaxReconnects(-1), nats.PingInterval(2 * time.Second), nats.MaxPingsOutstanding(2),
	}
}
