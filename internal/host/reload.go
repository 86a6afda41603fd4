package host

import (
	"encoding/json"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// serveReload answers dspex.ctl.<host>.reload: the host reads its settings again. reload is nil where it has none of its own.
func serveReload(on *stream.Access, host string, reload func() control.Reloaded) (stop func(), err error) {
	return on.Serve(jobs.SubjectControl+host+".reload", func(_ []byte, reply func([]byte)) {
		done := control.Reloaded{Faults: []string{"this host has no settings of its own: restart the program that it is part of"}}
		if reload != nil {
			done = reload()
		}
		done.Host = host
		if body, err := json.Marshal(done.Bounded()); err == nil {
			reply(body)
		}
	})
}
