package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// SilentReplica is how long a leader of a stream may be without contact to a replica that it counts on: it has contact with each once a second.
// It is less than quorum.Lasting.
const SilentReplica = 3 * time.Second

var errNoQuorum = errors.New("the leader of the stream has no recent contact with most of its replicas")

// Lead is what a stream's leader reports of it.
type Lead struct {
	Error   *jetstream.APIError    `json:"error"`
	Cluster *jetstream.ClusterInfo `json:"cluster"` // nil: it has no replicas
	State   struct {
		LastSeq uint64 `json:"last_seq"`
	} `json:"state"`
}

// Quorum returns what the stream's leader reports, if it has most of its replicas.
func Quorum(ctx context.Context, nc *nats.Conn, name string) (*Lead, error) {
	m, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.INFO."+name, nil)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", name, err)
	}
	var info Lead
	if err := json.Unmarshal(m.Data, &info); err != nil {
		return nil, fmt.Errorf("stream %s: %w", name, err)
	}
	if info.Error != nil {
		return nil, info.Error
	}
	if !hasQuorum(info.Cluster) {
		return nil, errNoQuorum
	}
	return &info, nil
}

// hasQuorum reports whether a stream's leader has contact with most of its replicas.
func hasQuorum(c *jetstream.ClusterInfo) bool {
	if c == nil {
		return true
	}
	inContact := 1
	for _, r := range c.Replicas {
		if !r.Offline && r.Active < SilentReplica {
			inContact++
		}
	}
	return c.Leader != "" && 2*inContact > 1+len(c.Replicas)
}
