package procs

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dspex/dspex"
)

var leaving = []string{"--import", "leaving", "--path", "../../python/tests/modules"}

// awaitGone waits until a process of another parent has ended.
func awaitGone(t *testing.T, pid int, what string) {
	t.Helper()
	for end := time.Now().Add(patience); lives(pid); runtime.Gosched() {
		if time.Now().After(end) {
			t.Errorf("%s: process %d is still there", what, pid)
			_ = syscall.Kill(pid, syscall.SIGKILL)
			return
		}
	}
}

// lives reports whether the process runs: a zombie waits for its parent only.
func lives(pid int) bool {
	b, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "stat"))
	if err != nil {
		return !errors.Is(err, os.ErrNotExist) && syscall.Kill(pid, 0) == nil
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

var ways = []string{"plain", "session", "daemon", "nested"}

// leave has a job start a process in each way and returns their numbers.
func leave(t *testing.T, c *dspex.Client) map[string]int {
	t.Helper()
	left := map[string]int{}
	for _, how := range ways {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		r, err := c.Execute(ctx, "leaver", "leave", dspex.Args{"how": how})
		cancel()
		var pid int
		if err == nil {
			err = r.Decode(&pid)
		}
		if err != nil {
			t.Fatalf("%s: %v", how, err)
		}
		if !lives(pid) {
			t.Fatalf("%s: process %d does not outlive its job", how, pid)
		}
		left[how] = pid
	}
	return left
}

func TestNothingOfAJobIsLeftWhenItsWorkerIsGone(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Log("processes that left their group are found on Linux only")
		return
	}
	for _, start := range []string{"zygote", "spawn"} {
		for name, end := range map[string]func(*deployment, *process, *dspex.Client){
			"the worker dies": func(d *deployment, _ *process, c *dspex.Client) {
				_, _ = c.Execute(d.t.Context(), "leaver", "exit", dspex.Args{"code": 1}, dspex.WithMaxRetries(0))
			},
			"the host stops":     func(_ *deployment, h *process, _ *dspex.Client) { h.stop() },
			"the host is killed": func(_ *deployment, h *process, _ *dspex.Client) { h.signal(syscall.SIGKILL); _ = h.awaitEnd() },
		} {
			t.Run(start+"/"+name, func(t *testing.T) {
				d := deploy(t)
				d.start("dispatcher", "d1")
				h := d.host("h1", append(leaving, "--workers", "1", "--start", start)...).awaitReady()
				c := d.client()
				left := leave(t, c)
				end(d, h, c)
				for how, pid := range left {
					awaitGone(t, pid, how)
				}
			})
		}
	}
}

func TestProgramsThatJobsStartAreInterruptedAsAnywhere(t *testing.T) {
	d := deploy(t)
	d.start("dispatcher", "d1")
	d.host("h1", leaving...).awaitReady()
	c := d.client()
	for _, command := range []string{"interrupted", "interrupted_fork"} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		r, err := c.ExecuteAnonymous(ctx, command, nil)
		cancel()
		status := 0
		if err == nil {
			err = r.Decode(&status)
		}
		if err != nil || status == 0 {
			t.Errorf("%s: status %d, %v; want that of SIGINT", command, status, err)
		}
	}
}

// kills is how many hosts are killed in turn.
var kills = flag.Int("kills", 8, "hosts that are killed")

func TestKilledHostsLeaveNoProcesses(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Log("processes that left their group are found on Linux only")
		return
	}
	d := deploy(t)
	d.start("dispatcher", "d1")
	c := d.client()
	for n := range *kills {
		d.killOne(c, n)
	}
}

// killOne kills a host at one of many moments, counted by how much it has logged: before its zygote is ready, in handshakes, under jobs,
// while programs of jobs start and workers die.
func (d *deployment) killOne(c *dspex.Client, n int) {
	d.t.Helper()
	// Workers see this variable, too: what begins with LC_ is passed on to them.
	mark, start := fmt.Sprintf("LC_ROUND_OF_TEST=%d-%d", os.Getpid(), n), []string{"zygote", "spawn"}[n%2]
	cmd := exec.Command(filepath.Join(bin, "worker-host"), append([]string{"--server", d.url, "--name", fmt.Sprint("k", n), "--engine", "stub", "--log-level", "debug",
		"--workers", "3", "--overflow", "2", "--slots", "2", "--start", start}, leaving...)...)
	cmd.Env = append(os.Environ(), mark)
	h := launch(d.t, cmd.Args[4], cmd)
	ctx, cancel := context.WithCancel(d.t.Context())
	var calls sync.WaitGroup
	defer calls.Wait()
	defer cancel()
	for i := range 8 {
		calls.Go(func() {
			for ctx.Err() == nil { // until the host is gone
				if i == 7 {
					_, _ = c.ExecuteAnonymous(ctx, "exit", dspex.Args{"code": 1}, dspex.WithMaxRetries(0))
				} else {
					_, _ = c.ExecuteAnonymous(ctx, "leave", dspex.Args{"how": ways[i%len(ways)]}, dspex.WithMaxRetries(0))
				}
			}
		})
	}
	h.awaitLines(n * 13 % 100)
	_ = h.cmd.Process.Kill()
	_ = h.awaitEnd()
	for end := time.Now().Add(patience); ; runtime.Gosched() {
		left := carrying(mark)
		if len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			d.t.Errorf("round %d, %s: %s are left\n%s", n, start, strings.Join(left, ", "), h.said())
			return
		}
	}
}

// awaitLines waits until the process has logged that many lines, or has ended by itself.
func (p *process) awaitLines(n int) {
	p.t.Helper()
	for end := time.Now().Add(patience); strings.Count(p.said(), "\n") < n; runtime.Gosched() {
		select {
		case <-p.done:
			return
		default:
		}
		if time.Now().After(end) {
			p.t.Fatalf("%s has logged less than %d lines:\n%s", p.name, n, p.said())
		}
	}
}

// carrying names the processes that have a variable in their environment.
func carrying(variable string) (found []string) {
	all, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range all {
		b, err := os.ReadFile(path)
		if err == nil && slices.Contains(strings.Split(string(b), "\x00"), variable) {
			line, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
			found = append(found, filepath.Base(filepath.Dir(path))+" "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}
