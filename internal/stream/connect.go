package stream

import (
	"time"

	"github.com/nats-io/nats.go"
)

// ConnectOptions are those of every dspex process. What is said while the broker is away fails at once, and is judged again,
// instead of arriving late. A dead connection is noticed within 6 s, before the lease of 10 s is over. A lost one is tried
// again every 0.25 to 0.35 s: before a dispatcher takes the process for dead, and soon after a broker's restart.
func ConnectOptions(name string) []nats.Option {
	return []nats.Option{
		nats.Name(name), nats.ReconnectBufSize(-1), nats.MaxReconnects(-1), nats.PingInterval(2 * time.Second), nats.MaxPingsOutstanding(2),
		nats.ReconnectWait(250 * time.Millisecond), nats.ReconnectJitter(100*time.Millisecond, 100*time.Millisecond),
	}
}
