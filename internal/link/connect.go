package link

import (
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// ConnectOptions are those of every dspex process. What is sent while the broker is away fails at once, and is decided again,
// instead of arriving late. A dead connection is detected within 6 s, before the lease of 10 s is over. A lost one is tried
// again every 0.25 to 0.35 s: before a dispatcher takes the process for dead, and soon after a broker's restart.
func ConnectOptions(name string) []nats.Option {
	return []nats.Option{
		nats.Name(name), nats.ReconnectBufSize(-1), nats.MaxReconnects(-1), nats.PingInterval(2 * time.Second), nats.MaxPingsOutstanding(2),
		nats.ReconnectWait(250 * time.Millisecond), nats.ReconnectJitter(100*time.Millisecond, 100*time.Millisecond),
	}
}

// The oldest broker that has all that is used: limit markers and TTLs of single messages came with it.
const oldestMajor, oldestMinor = 2, 11

// CheckVersion returns an error that names both versions if the connected broker is too old. One that reports no version it
// understands passes: what it lacks then fails by name.
func CheckVersion(nc *nats.Conn) error { return checkVersion(nc.ConnectedServerVersion()) }

func checkVersion(version string) error {
	var major, minor int
	parsed, _ := fmt.Sscanf(version, "%d.%d.", &major, &minor)
	if parsed < 2 || major > oldestMajor || major == oldestMajor && minor >= oldestMinor {
		return nil
	}
	return fmt.Errorf("the NATS server must be version %d.%d or newer, got %s: upgrade nats-server", oldestMajor, oldestMinor, version)
}
