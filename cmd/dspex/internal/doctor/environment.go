package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/pyenv"
)

// environment checks DSPy and the packages beside it against the lock.
func (d *doctor) environment(ctx context.Context) {
	cfg := pyenv.Config{Python: d.interpreter}
	found, err := pyenv.Look(ctx, cfg)
	switch {
	case err != nil:
		return // the check of Python has reported it
	case !found.Made:
		d.add("dspy", Note, "the first start makes it; `dspex env sync` or `worker-host prepare` do so ahead of it", "there is no Python environment with DSPy here yet")
		return
	case found.Missing != "":
		d.mend(Finding{Check: "dspy", Level: Wrong, Text: "files were removed from the Python environment", Before: "damaged: " + found.Missing, After: "made again"},
			func() error { _, err := pyenv.Ensure(ctx, cfg); return err })
		return
	case found.DSPy == "" || len(found.Differs) > 0:
		d.add("locks", Wrong, "remove "+found.Dir+": the next start makes it again", "packages are not as locked: %s", cli.FirstOf(strings.Join(found.Differs, "; "), "dspy is missing"))
		return
	}
	d.fine("dspy", "DSPy %s in %s", found.DSPy, found.Dir)
	d.fine("locks", "%d packages, all as locked", found.Packages)
}

// leastRoom is what a disk should have: an environment takes some hundred MiB, and a broker refuses to store without room.
const leastRoom = 1 << 30

// disks checks the room where environments are made and where workers write.
func (d *doctor) disks() {
	cache := d.app.Env("XDG_CACHE_HOME")
	if cache == "" {
		cache = filepath.Join(d.app.Env("HOME"), ".cache")
	}
	for _, of := range []struct{ what, dir string }{{"Python environments", cache}, {"temporary files", os.TempDir()}} {
		d.room(of.what, of.dir)
	}
}

func (d *doctor) room(what, dir string) {
	for !exists(dir) && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
	}
	free, err := roomOf(dir)
	switch {
	case err != nil:
		return
	case free < leastRoom:
		d.add("disk", Warning, "make room, or use another disk", "%s free for %s, in %s", size(free), what, dir)
	default:
		d.fine("disk", "%s free for %s, in %s", size(free), what, dir)
	}
}

// size is a number of bytes; where there are many, in GiB.
func size(n int64) string {
	if n >= 1<<30 {
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	}
	return cli.Size(int(n))
}
