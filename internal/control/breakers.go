package control

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/jobs"
)

// Names of circuit breakers (contract/job.md).
const (
	breakerLM    = "lm."
	breakerPool  = "pool."
	breakerStart = "start."
)

// PoolBreaker is the name of the breaker of a host's workers, StartBreaker that of their starts.
func PoolBreaker(host string) string { return breakerPool + host }

// StartBreaker is the name of the breaker of the starts of a host's workers.
func StartBreaker(host string) string { return breakerStart + host }

// LMBreaker is the name of the breaker of a language model: who has another address or another key may fail alone.
func LMBreaker(provider, model, address, key string) string {
	name := breakerLM + provider + "/" + model
	if address != "" {
		name += "@" + address
	}
	if key != "" {
		name += "#" + key
	}
	return clipName(name)
}

// OwnBreaker is the breaker of the model for one tenant: what no profile of the host has fails for the tenant that has chosen it alone.
func OwnBreaker(m jobs.Model, tenant string) string {
	rest, ok := strings.CutPrefix(m.Breaker, breakerLM)
	if !ok || !m.Chosen || tenant == jobs.DefaultTenant {
		return m.Breaker
	}
	return clipName(breakerLM + tenant + "!" + rest)
}

// BreakerShownTo reports whether a tenant sees the breaker: those of language models that are not another tenant's own.
func BreakerShownTo(tenant, name string) bool {
	rest, ok := strings.CutPrefix(name, breakerLM)
	provider, _, _ := strings.Cut(rest, "/")
	owner, _, owned := strings.Cut(provider, "!")
	return ok && (!owned || owner == tenant)
}

// MostBreakerName bounds a breaker's name in bytes; the end of a longer one is a hash.
const MostBreakerName = 128

func clipName(name string) string {
	if len(name) <= MostBreakerName {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return strings.ToValidUTF8(name[:MostBreakerName-17], "") + "~" + hex.EncodeToString(sum[:8])
}

// BreakerOf reports whether the breaker concerns a host: its own, and those of language models.
func BreakerOf(name, host string) bool {
	return BreakerOfAll(name) || name == PoolBreaker(host) || name == StartBreaker(host)
}

// BreakerOfAll reports whether the breaker concerns every host, so that all count its failures together.
func BreakerOfAll(name string) bool { return strings.HasPrefix(name, breakerLM) }

// BreakerKeys matches the keys of all breakers that are not closed, FailureKeys those of closed ones that have failures, in
// dspex_control.
const (
	BreakerKeys = breakerPrefix + "*"
	FailureKeys = failurePrefix + "*"
)

const (
	breakerPrefix = "b."
	failurePrefix = "f."
)

// BreakerKey is the key of a breaker in dspex_control: what a key may not have is written as its bytes in hex.
func BreakerKey(name string) string { return spellKey(breakerPrefix, name) }

// FailureKey is the key of the failures that a closed breaker has in a row.
func FailureKey(name string) string { return spellKey(failurePrefix, name) }

// plainInKeys are the bytes that stand for themselves in a key.
const plainInKeys = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_/"

func spellKey(prefix, name string) string {
	var b strings.Builder
	b.WriteString(prefix)
	for i := range len(name) {
		if c := name[i]; strings.IndexByte(plainInKeys, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "=%02X", c)
		}
	}
	return b.String()
}

// BreakerName reads a BreakerKey, FailedName a FailureKey.
func BreakerName(key string) (string, error) { return readKey(breakerPrefix, key) }

// FailedName reads a FailureKey.
func FailedName(key string) (string, error) { return readKey(failurePrefix, key) }

func readKey(prefix, key string) (string, error) {
	text, ok := strings.CutPrefix(key, prefix)
	plain, rest, more := strings.Cut(text, "=")
	name := []byte(plain)
	for ok && more {
		var c []byte
		if len(rest) < 2 {
			ok = false
		} else if c, _ = hex.DecodeString(rest[:2]); len(c) != 1 {
			ok = false
		} else {
			plain, rest, more = strings.Cut(rest[2:], "=")
			name = append(append(name, c...), plain...)
		}
	}
	if !ok {
		return "", fmt.Errorf("breaker key %q: expected %s<name>", jobs.Clip(key), prefix)
	}
	return string(name), nil
}

// OpenBreaker is the value under a BreakerKey while the breaker is open: each write opens it again on every host. Under a
// FailureKey it counts the failures in a row of all hosts while the breaker is closed.
type OpenBreaker struct {
	Name     string       `json:"name"`
	Host     string       `json:"host"` // who found out
	Failures int          `json:"failures"`
	Last     *LastFailure `json:"last_failure,omitempty"`
}

// LastFailure is what counted last on a breaker.
type LastFailure struct {
	What string    `json:"what"` // category/code
	At   time.Time `json:"at"`
}

// ParseOpenBreaker reads a value.
func ParseOpenBreaker(b []byte) (OpenBreaker, error) {
	var o OpenBreaker
	if err := json.Unmarshal(b, &o); err != nil || o.Name == "" || len(o.Name) > MostBreakerName {
		return OpenBreaker{}, fmt.Errorf("breaker %q: expected {\"name\": ...}", jobs.Clip(string(b)))
	}
	return o, nil
}

// Bytes is the stored form.
func (o OpenBreaker) Bytes() []byte {
	b, err := json.Marshal(o)
	if err != nil {
		panic(err) // texts, numbers and a time always marshal
	}
	return b
}

// BreakersRequest is the request to a host on dspex.ctl.<host>.breakers; the answer is a list of breakers.
type BreakersRequest struct {
	Reset string `json:"reset,omitempty"` // name of one to reset before
}

// Subjects and names of the events in DSPEX_EVENTS.
const (
	SubjectBreakerEvents = contract.SubjectBreakerEvents // + change
	EventBreaker         = "dspex.circuit_breaker."
	EventSessionPool     = "dspex.session_pool."
)

// BreakerEvent reports that a breaker was opened, reopened, closed or reset.
type BreakerEvent struct {
	Event   string    `json:"event"`
	At      time.Time `json:"at"`
	Host    string    `json:"host,omitempty"` // who found out; none for a reset
	Breaker any       `json:"breaker"`
}
