package natstest

import (
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// given holds the ports that this process has handed out.
var given sync.Map

// FreeAddress is a loopback address where nothing listens, for a server whose port must be known before it starts, or that comes
// back to it. Its port is below those that systems give to outgoing connections (from 32768 on, or higher): one of them could be
// taken by any connection before the server listens.
func FreeAddress(t testing.TB) string {
	t.Helper()
	for range 1000 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(20000+rand.IntN(12000)))
		if _, taken := given.LoadOrStore(address, true); taken {
			continue
		}
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			return address
		}
	}
	t.Fatal("no free port between 20000 and 32000")
	return ""
}

var hashes = regexp.MustCompile(`\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}`)

// QuickHash replaces the one password hash in a broker's configuration by one that is quickly checked. With the race detector on a
// loaded machine an ordinary one takes longer than a broker waits for a client.
func QuickHash(t testing.TB, file, password string) {
	t.Helper()
	text, err := os.ReadFile(file)
	check(t, err)
	if n := len(hashes.FindAll(text, -1)); n != 1 {
		t.Fatalf("%s: %d password hashes, want 1", file, n)
	}
	quick, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	check(t, err)
	check(t, os.WriteFile(file, hashes.ReplaceAllLiteral(text, quick), 0o600))
}
