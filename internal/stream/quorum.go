package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// silentReplica is how long a leader of a stream may not have heard of a replica that it counts on: it hears of each once a second.
// It is less than quorum.Lasting.
const silentReplica = 3 * time.Second

var errNoQuorum = errors.New("the leader of the stream has not heard of most of its replicas lately")

// AskQuorum asks the leader of the stream of jobs whether it can store something: a leader that is cut off goes on answering for ten
// seconds, but says itself since when it has not heard of its replicas.
func AskQuorum(ctx context.Context, nc *nats.Conn) error {
	_, err := askQuorum(ctx, nc, Jobs)
	if errors.Is(err, jetstream.ErrStreamNotFound) { // a stream that was deleted is missed everywhere
		return nil
	}
	return err
}

// told is what a stream's leader says of it.
type told struct {
	Error   *jetstream.APIError    `json:"error"`
	Cluster *jetstream.ClusterInfo `json:"cluster"` // nil: it has no replicas
	State   struct {
		LastSeq uint64 `json:"last_seq"`
	} `json:"state"`
}

// askQuorum returns what the stream's leader says, if it has most of its replicas.
func askQuorum(ctx context.Context, nc *nats.Conn, name string) (*told, error) {
	m, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.INFO."+name, nil)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", name, err)
	}
	var info told
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

// hasQuorum reports whether a stream's leader hears of most of its replicas.
func hasQuorum(c *jetstream.ClusterInfo) bool {
	if c == nil {
		return true
	}
	heard := 1
	for _, r := range c.Replicas {
		if !r.Offline && r.Active < silentReplica {
			heard++
		}
	}
	return c.Leader != "" && 2*heard > 1+len(c.Replicas)
}
