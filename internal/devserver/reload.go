package devserver

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/host/workers"
	"github.com/dspex/dspex/internal/pyproc"
)

// Bounds of a watch.
const (
	watchPause   = 500 * time.Millisecond // between two looks at the files
	mostWatched  = 5000                   // files; what is beyond them is not watched
	retirePause  = 100 * time.Millisecond // between two looks at workers that leave
	freshWorkers = 2 * time.Minute        // for the imports of the changed code
)

// fresh is a pool whose workers are replaced when the user's code changes. The new ones have imported all of it again; jobs that run stay
// where they are, and the old workers end after their last one. Their sessions are loaded from their records.
type fresh struct {
	make    func() *pyproc.Pool
	ctx     context.Context // of all pools
	running sync.WaitGroup

	mu     sync.Mutex
	now    *lasting
	old    []*lasting
	limits *pyproc.Limits // nil: those of make
}

// lasting is a pool and its end.
type lasting struct {
	pool *pyproc.Pool
	end  context.CancelFunc
}

// newFresh starts the first pool. ctx ends all.
func newFresh(ctx context.Context, pool func() *pyproc.Pool) *fresh {
	f := &fresh{make: pool, ctx: ctx}
	f.now = f.start()
	return f
}

func (f *fresh) start() *lasting {
	ctx, end := context.WithCancel(f.ctx)
	l := &lasting{f.make(), end}
	f.mu.Lock()
	limits := f.limits
	f.mu.Unlock()
	if limits != nil {
		_ = l.pool.Adjust(*limits) // they were right for the pool before
	}
	f.running.Go(func() { _ = l.pool.Run(ctx) }) // its configuration is that of the first one, whose Ready reports what is wrong
	return l
}

// adjust gives this pool, and those that follow, other limits.
func (f *fresh) adjust(l pyproc.Limits) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.now.pool.Adjust(l); err != nil {
		return err
	}
	f.limits = &l
	return nil
}

func (f *fresh) pool() *pyproc.Pool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now.pool
}

// replace starts workers with the code of now and lends out theirs from then on. If none of them starts the old ones stay.
func (f *fresh) replace(ctx context.Context) error {
	next := f.start()
	ctx, cancel := context.WithTimeout(ctx, freshWorkers)
	defer cancel()
	if err := next.pool.Ready(ctx); err != nil {
		next.end()
		return workersFailed(err)
	}
	f.mu.Lock()
	old := f.now
	f.now, f.old = next, append(f.old, old)
	f.mu.Unlock()
	_ = old.pool.Adjust(old.pool.Limits()) // who waits for its room looks at the new one
	f.running.Go(func() { f.retire(old) })
	return nil
}

// retire ends a pool after its last job.
func (f *fresh) retire(l *lasting) {
	defer l.end()
	for range clock.Every(f.ctx, retirePause) {
		if st := l.pool.Stats(); st.Active == 0 && st.Waiting == 0 {
			f.mu.Lock()
			f.old = slices.DeleteFunc(f.old, func(o *lasting) bool { return o == l })
			f.mu.Unlock()
			return
		}
	}
}

// Checkout implements workers.Pool, as the rest does.
func (f *fresh) Checkout(want workers.Want, wait workers.Wait) (workers.Slot, error) {
	for {
		pool := f.pool()
		slot, err := workers.Python(pool).Checkout(want, wait)
		if !errors.Is(err, pyproc.ErrStopped) || pool == f.pool() {
			return slot, err
		}
	}
}

// SendAll sends the frame to the workers that leave, too.
func (f *fresh) SendAll(t frame.Type, body []byte) {
	f.mu.Lock()
	all := append([]*lasting{f.now}, f.old...)
	f.mu.Unlock()
	for _, l := range all {
		l.pool.SendAll(t, body)
	}
}

// Free counts the slots of the new workers.
func (f *fresh) Free() int { return f.pool().Free() }

// Room is that of the new workers.
func (f *fresh) Room() (free, allowed int, changed <-chan struct{}) { return f.pool().Room() }

// Workers counts the new ones.
func (f *fresh) Workers() workers.Counts { return workers.Python(f.pool()).Workers() }

// Describe implements prometheus.Collector.
func (f *fresh) Describe(to chan<- *prometheus.Desc) { workers.Metrics(f.pool()).Describe(to) }

// Collect reports the new workers.
func (f *fresh) Collect(to chan<- prometheus.Metric) { workers.Metrics(f.pool()).Collect(to) }

// watch replaces the workers after each change of a file of the user's until ctx ends, and reports each.
func (f *fresh) watch(ctx context.Context, dirs []string, report func(file string, err error)) {
	seen := stamps(dirs)
	for range clock.Every(ctx, watchPause) {
		now := stamps(dirs)
		file := differing(seen, now)
		if file == "" {
			continue
		}
		seen = now
		err := f.replace(ctx)
		if ctx.Err() == nil {
			report(file, err)
		}
	}
}

// stamp distinguishes the versions of a file.
type stamp struct {
	at   time.Time
	size int64
}

// stamps reads the versions of the Python files below the directories. Hidden directories and installed packages are not the user's.
func stamps(dirs []string) map[string]stamp {
	all := map[string]stamp{}
	for _, dir := range dirs {
		_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return nil //nolint:nilerr // what cannot be read is not watched
			case len(all) >= mostWatched:
				return fs.SkipAll
			case e.IsDir() && path != dir && (strings.HasPrefix(e.Name(), ".") || e.Name() == "node_modules" || isEnvironment(path)):
				return fs.SkipDir
			case !e.IsDir() && filepath.Ext(path) == ".py":
				if info, err := e.Info(); err == nil {
					all[path] = stamp{info.ModTime(), info.Size()}
				}
			}
			return nil
		})
	}
	return all
}

// isEnvironment reports whether a directory is a virtual environment.
func isEnvironment(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "pyvenv.cfg"))
	return err == nil
}

// differing is a file that is new, gone or another one, "" if there is none.
func differing(before, now map[string]stamp) string {
	for _, path := range slices.Sorted(maps.Keys(now)) {
		if before[path] != now[path] {
			return path
		}
	}
	for _, path := range slices.Sorted(maps.Keys(before)) {
		if _, there := now[path]; !there {
			return path
		}
	}
	return ""
}
