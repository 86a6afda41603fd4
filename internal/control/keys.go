package control

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

// Keys in dspex_control beside those of drained hosts and breakers.
const (
	LeaderKey    = "leader"     // the leading dispatcher's name, empty after it has left
	DefaultLMKey = "lm.default" // the arguments of the last set_lm without a session
)

// PushedPrefix begins the keys of programs that were pushed to all hosts; an id in base64 follows.
const PushedPrefix = "prog."

// drainPrefix begins the keys of drained hosts.
const drainPrefix = "drain."

// Drain is the value under a DrainKey.
type Drain struct {
	Since string `json:"since"`
}

// IsDrain reports whether a value under a DrainKey is an operator's wish. What is none is not obeyed.
func IsDrain(value []byte) bool {
	var d Drain
	if json.Unmarshal(value, &d) != nil {
		return false
	}
	_, err := time.Parse(time.RFC3339Nano, d.Since)
	return err == nil
}

// IsDefaultLM reports whether a value under DefaultLMKey is what set_lm leaves there.
func IsDefaultLM(value []byte) bool {
	body, err := wire.Canonical(value, wire.Request)
	if err != nil {
		return false
	}
	_, err = wire.NewReader(body).Map()
	return err == nil
}

// DrainKey is the key in dspex_control that is there while a host is to be empty.
func DrainKey(host string) string { return drainPrefix + host }

// isPushed reports whether a value may be the body of a frame PROGRAM; hosts read it whole (contract/frame.md).
func isPushed(value []byte) bool {
	n, err := wire.NewReader(value).Array()
	return err == nil && n == 3
}

// Ours reports whether a component of this release may have written the value under the key in dspex_control.
func Ours(key string, value []byte) bool {
	host, drain := strings.CutPrefix(key, drainPrefix)
	switch {
	case key == LeaderKey:
		return len(value) == 0 || jobs.ValidSession(string(value))
	case key == DefaultLMKey:
		return IsDefaultLM(value)
	case key == TotalsKey:
		_, err := ParseTotals(value)
		return err == nil
	case drain:
		return jobs.ValidSession(host) && IsDrain(value)
	}
	if id, pushed := strings.CutPrefix(key, PushedPrefix); pushed {
		_, err := base64.RawURLEncoding.DecodeString(id)
		return err == nil && isPushed(value)
	}
	name, err := BreakerName(key)
	if err != nil {
		name, err = FailedName(key)
	}
	if err != nil {
		return false
	}
	open, err := ParseOpenBreaker(value)
	return err == nil && open.Name == name
}
