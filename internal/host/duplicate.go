package host

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// errDuplicate ends a host whose name another one has taken over.
var errDuplicate = errors.New("another host of the same name has started")

// watchDuplicate ends this host when a later incarnation of its name shows that it lives. A host that was frozen for so long that it was
// replaced must not fight for the partitions that bear its name. lose is called once at most.
func watchDuplicate(on *stream.Access, host, incarnation string, started int64, lose context.CancelCauseFunc) (stop func(), err error) {
	return on.Serve(jobs.SubjectHeartbeat+host, func(data []byte, _ func([]byte)) {
		var b control.Heartbeat
		if json.Unmarshal(data, &b) != nil || b.Incarnation == incarnation || b.Leaving {
			return
		}
		if later := cmp.Or(cmp.Compare(b.Started, started), cmp.Compare(b.Incarnation, incarnation)) > 0; !later {
			return
		}
		lose(fmt.Errorf("host %q (incarnation %s): %w (incarnation %s)", host, incarnation, errDuplicate, b.Incarnation))
	})
}
