//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspex/dspex/internal/pyenv"
	"github.com/dspex/dspex/internal/pyproc"
)

func stackHas(err error, place string) bool {
	hung, ok := errors.AsType[*pyproc.HungError](err)
	return ok && place != "" && strings.Contains(hung.Stack, place)
}

// staffWorkers are the workers of a host that is killed: one idle, one that waits, one that computes, one that holds the interpreter's lock.
const staffWorkers = 4

// playStaff is a host without broker: it starts workers, occupies them, reports which processes they are, and waits for its death.
func playStaff(ctx context.Context, modules string, zygote bool) error {
	env, err := pyenv.Ensure(ctx, pyenv.Config{Paths: []string{modules}})
	if err != nil {
		return err
	}
	s := hire(ctx, env, staffWorkers, zygote, nil)
	defer func() { _ = s.stop() }()
	if _, err := s.await(ctx, staffWorkers, isReady); err != nil {
		return err
	}
	for _, command := range []string{"in_sleep", "in_thread", "hold_gil"} {
		slot, err := s.Checkout(ctx, 0)
		if err != nil {
			return err
		}
		if _, err := begin(ctx, slot, command); err != nil {
			return err
		}
	}
	var pids []string
	for _, w := range s.Stats().Workers {
		pids = append(pids, strconv.Itoa(w.PID))
		if parent := parentOf(w.PID); zygote && parent != 0 {
			pids = append(pids, strconv.Itoa(parent))
		}
	}
	fmt.Println("pids", strings.Join(pids, " "))
	<-ctx.Done()
	return nil
}

// parentOf reads the parent's number from /proc.
func parentOf(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	var state string
	var parent int
	if _, err := fmt.Sscan(rest, &state, &parent); err != nil {
		return 0
	}
	return parent
}

// measureOrphans kills hosts and times the end of the last of their workers.
func measureOrphans(ctx context.Context, o *options, r *report, _ pyenv.Env) error {
	for _, mode := range []string{"zygote", "spawn"} {
		var gone []float64
		for range max(10, 2*o.rounds) {
			took, err := killStaff(ctx, o, mode)
			if err != nil {
				return err
			}
			gone = append(gone, milliseconds(took))
		}
		name := fmt.Sprintf("host killed: last of its workers gone, most of %d (%s)", len(gone), mode)
		r.worker(name, "ms", "<=", gonePeak, []float64{p99(gone)})
	}
	return nil
}

func killStaff(ctx context.Context, o *options, mode string) (time.Duration, error) {
	p, err := start(o, -1, "staff", o.self, "role", "staff", "-modules", filepath.Join(o.dir, "modules"), "-start", mode)
	if err != nil {
		return 0, err
	}
	defer p.stop()
	line, err := p.await(ctx, p.lines, "pids ")
	if err != nil {
		return 0, err
	}
	var fds []unix.PollFd
	seen := map[string]bool{}
	for text := range strings.FieldsSeq(line) {
		if seen[text] {
			continue
		}
		seen[text] = true
		pid, err := strconv.Atoi(text)
		if err != nil {
			return 0, err
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return 0, fmt.Errorf("process %d: %w", pid, err)
		}
		defer func() { _ = unix.Close(fd) }()
		fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	began := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		return 0, err
	}
	for i := range fds {
		for {
			n, err := unix.Poll(fds[i:i+1], int(stopTimeout.Milliseconds()))
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil || n == 0 {
				return 0, fmt.Errorf("a worker outlived its host by %v (%w)", stopTimeout, err)
			}
			break
		}
	}
	return time.Since(began), nil
}
