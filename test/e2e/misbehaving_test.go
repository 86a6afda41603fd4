package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/dspex/dspex"
)

// misbehaving are the rows of the fault catalogue that concern workers, each with what its job's error must be ("": none).
var misbehaving = []struct {
	command string
	args    dspex.Args
	code    string
}{
	{"print_everywhere", nil, ""},
	{"flood_stderr", dspex.Args{"mb": 20}, ""},
	{"garbage", nil, "bad_frame"},
	{"half_a_frame_then_exit", nil, "worker_died"},
	{"die", dspex.Args{"with_signal": int(syscall.SIGSEGV)}, "worker_died"},
	{"fork_and_return", nil, ""},
	{"ignore_sigterm", nil, ""},
	{"hold_gil", nil, "operation_timeout"},
	{"deaf", nil, "operation_timeout"},
	{"stop", nil, "operation_timeout"},
	{"leak_and_stay", dspex.Args{"mb": 160}, "worker_died"},
}

// A session goes on behind a job that ended its worker, whichever way, and nobody else's job is lost.
func TestNoJobSessionOrProcessIsLeftBehindByWorkersThatMisbehave(t *testing.T) {
	pipe, gone := orphans(t)
	d := startIn(t, "../../python/tests/modules", "--engine", "stub", "--import", "misbehaving", "--slots", "2", "--breaker-failures", "1000",
		"--recycle-mib", "96", "--max-mib", "128", "--sandbox-write", filepath.Dir(pipe))
	ctx, c := connectTo(t, d.url)
	// Its children are in the worker's group until that ends, and in no reach of theirs after that.
	if _, err := c.Execute(ctx, "s", "fork_bomb", dspex.Args{"count": 3, "fifo": pipe}); err != nil {
		t.Fatal(err)
	}
	var beside []dspex.JobRef
	for n, m := range misbehaving {
		r, err := c.Submit(ctx, fmt.Sprint("beside_", n), "sleep", dspex.Args{"ms": 300})
		if err != nil {
			t.Fatal(err)
		}
		beside = append(beside, r.Job)
		patience := time.Minute // of the one that the host must find out about
		if m.code == "operation_timeout" {
			patience = 300 * time.Millisecond
		}
		_, err = c.Execute(ctx, "s", m.command, m.args, dspex.WithMaxRetries(0), dspex.WithTimeout(patience))
		if e, _ := errors.AsType[*dspex.Error](err); (e == nil) != (m.code == "") || e != nil && e.Code != m.code {
			t.Errorf("%s: %v, want %q", m.command, err, m.code)
		}
		var all struct{ List []int }
		if r, err := c.Execute(ctx, "s", "append", dspex.Args{"x": n}); err != nil || r.Decode(&all) != nil || len(all.List) != n+1 {
			t.Fatalf("%s: the session's next job: %+v %v", m.command, r, err)
		}
	}
	for n, job := range beside {
		if _, err := c.Wait(ctx, job); err != nil {
			t.Errorf("the job beside %s: %v", misbehaving[n].command, err)
		}
	}
	d.Stop()
	if err := gone(ctx); err != nil {
		t.Error(err)
	}
}

// orphans makes a pipe that processes hold open; gone waits until none of them is left.
func orphans(t *testing.T) (path string, gone func(context.Context) error) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "held")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		f, err := os.Open(path) // until the first one writes
		if err == nil {
			_, err = io.Copy(io.Discard, f)
			_ = f.Close()
		}
		ended <- err
	}()
	return path, func(ctx context.Context) error {
		select {
		case err := <-ended:
			return err
		case <-ctx.Done():
			return fmt.Errorf("processes that a worker forked are left: %w", ctx.Err())
		}
	}
}
