package stream

import (
	"fmt"

	"github.com/nats-io/nats.go"
)

// The oldest broker that has all that is used: limit markers and TTLs of single messages came with it.
const oldestMajor, oldestMinor = 2, 11

// CheckVersion returns an error that names both versions if the connected broker is too old. One that tells no version it
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
