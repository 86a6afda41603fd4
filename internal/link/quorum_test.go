package link

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

func TestALeaderHasQuorumWhileItHearsOfMostOfItsReplicas(t *testing.T) {
	heard, silent := &jetstream.PeerInfo{Active: time.Second}, &jetstream.PeerInfo{Active: 4 * time.Second}
	offline := &jetstream.PeerInfo{Active: time.Second, Offline: true}
	for name, c := range map[string]struct {
		cluster *jetstream.ClusterInfo
		want    bool
	}{
		"no cluster":          {nil, true},
		"one replica":         {&jetstream.ClusterInfo{Leader: "n0"}, true},
		"nobody leads":        {&jetstream.ClusterInfo{Replicas: []*jetstream.PeerInfo{heard, heard}}, false},
		"all are heard":       {&jetstream.ClusterInfo{Leader: "n0", Replicas: []*jetstream.PeerInfo{heard, heard}}, true},
		"one of two is heard": {&jetstream.ClusterInfo{Leader: "n0", Replicas: []*jetstream.PeerInfo{heard, silent}}, true},
		"none is heard":       {&jetstream.ClusterInfo{Leader: "n0", Replicas: []*jetstream.PeerInfo{silent, offline}}, false},
		"half are heard":      {&jetstream.ClusterInfo{Leader: "n0", Replicas: []*jetstream.PeerInfo{heard, silent, silent}}, false},
	} {
		if got := hasQuorum(c.cluster); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
