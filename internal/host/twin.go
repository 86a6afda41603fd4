package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/jobs"
)

// errTwin ends a host whose name another one has taken over.
var errTwin = errors.New("another host of the same name has started since")

// watchTwin ends this host when a later incarnation of its name says that it lives: a host that was frozen for so long that
// it was replaced must not fight for the partitions that bear its name. lose is called once at most.
func (h *Host) watchTwin(lose context.CancelCauseFunc) (stop func(), err error) {
	sub, err := h.nc.Subscribe(jobs.SubjectHeartbeat+h.cfg.Name, func(m *nats.Msg) {
		var b jobs.Heartbeat
		if json.Unmarshal(m.Data, &b) != nil || b.Incarnation == h.incarnation || b.Leaving || b.Started < h.started ||
			b.Started == h.started && b.Incarnation < h.incarnation {
			return
		}
		lose(fmt.Errorf("host %q (incarnation %s): %w (incarnation %s)", h.cfg.Name, h.incarnation, errTwin, b.Incarnation))
	})
	if err != nil {
		return nil, fmt.Errorf("subscribe to the beats of this name: %w", err)
	}
	return func() { _ = sub.Unsubscribe() }, nil
}
