package host

import (
	"encoding/json"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/host/workers"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// followErased serves dspex.ctl.drop until stop is called: the workers drop what they hold of an erased session.
func followErased(on *stream.Access, pool workers.Pool) (stop func(), err error) {
	return on.Serve(jobs.SubjectDrop, func(data []byte, _ func([]byte)) {
		var d jobs.Drop
		if json.Unmarshal(data, &d) == nil && d.Ref().Valid() {
			pool.SendAll(frame.Drop, frame.DropBody{Session: d.Ref().String()}.AppendBody(nil))
		}
	})
}
