package stores

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// foreign are the keys of buckets under which something lies that no component can have written. It is not obeyed: who reads such a
// value goes on as if it were not there. The health names it, since a user has permissions that it should not have.
type foreign map[string]bool

// mostForeign bounds the keys that are named.
const mostForeign = 100

func (f foreign) reasons() (all []string) {
	for _, at := range slices.Sorted(maps.Keys(f)) {
		bucket, key, _ := strings.Cut(at, " ")
		all = append(all, fmt.Sprintf("bucket %s has a value under %q that no component of this release can have written: it is ignored; remove it, and check who may publish there", bucket, jobs.Clip(key)))
	}
	return all
}

func oursInControl(key string, value []byte) bool {
	if key == stream.ClockKey {
		_, err := stream.ParseSteps(value)
		return err == nil
	}
	return control.Ours(key, value)
}

// OursInAssign reports whether a component may have written the value under the key in dspex_assign.
func OursInAssign(key string, value []byte) bool {
	var n int
	_, err := fmt.Sscanf(key, jobs.AssignmentKey(0)[:2]+"%d", &n)
	if err != nil || key != jobs.AssignmentKey(n) {
		return false
	}
	_, err = stream.ParseOwner(value)
	return err == nil
}
