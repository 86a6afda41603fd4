package demo

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

//go:embed demodata/demo_tools.py
var demoTools []byte

const (
	demoStart = 5 * time.Minute // the first start of all makes the Python environment
	demoStop  = 15 * time.Second
)

// startHost starts a worker-host as a process of its own and waits until it serves.
func (d *demo) startHost(ctx context.Context, name string, flags ...string) (*demoHost, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	program := filepath.Join(filepath.Dir(self), "worker-host")
	if _, err := os.Stat(program); err != nil {
		return nil, fmt.Errorf("the demo needs worker-host beside dspex: `make build` makes both: %w", err)
	}
	profiles, err := json.Marshal(map[string]any{"default": "echo", "profiles": map[string]any{
		"echo": map[string]any{"provider": "openai_compatible", "model": "echo", "api_base": d.info.Echo}}})
	if err != nil {
		return nil, err
	}
	lm := filepath.Join(d.dir, "profiles.json")
	if err := errors.Join(os.WriteFile(lm, profiles, 0o600), os.WriteFile(filepath.Join(d.dir, "demo_tools.py"), demoTools, 0o600)); err != nil {
		return nil, err
	}
	h := &demoHost{name: name, ended: make(chan error, 1)}
	h.cmd = exec.Command(program, append([]string{"--server", d.info.URL, "--name", name, "--workers", "2", "--lm", lm,
		"--import", "demo_tools", "--path", d.dir, "--log-level", "error", "--breaker-timeout", demoBreaker.String()}, flags...)...)
	h.cmd.Stderr = d.Err
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := h.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	ready := make(chan struct{})
	go func() {
		lines := bufio.NewScanner(out)
		for seen := false; lines.Scan(); {
			if !seen && strings.HasPrefix(lines.Text(), "ready") {
				seen = true
				close(ready)
			}
		}
		h.ended <- h.cmd.Wait()
	}()
	ctx, cancel := context.WithTimeout(ctx, demoStart)
	defer cancel()
	select {
	case <-ready:
		return h, d.awaitService(ctx)
	case err := <-h.ended:
		h.ended <- err
		return nil, fmt.Errorf("worker-host %s ended: %w", name, err)
	case <-ctx.Done():
		h.stop()
		return nil, fmt.Errorf("worker-host %s is not ready within %v", name, demoStart)
	}
}

// awaitService waits until the dispatcher has received the host's heartbeat.
func (d *demo) awaitService(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := d.c.Health(ctx); err == nil {
			return nil
		} else if ctx.Err() != nil {
			return err
		}
		<-tick.C
	}
}

// kill ends the host as the kernel would for lack of memory.
func (h *demoHost) kill() {
	_ = h.cmd.Process.Kill()
	err := <-h.ended // it reports that it was killed
	h.ended <- err
}

// stop ends it in order.
func (h *demoHost) stop() {
	if h == nil {
		return
	}
	_ = h.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-h.ended:
		h.ended <- err
	case <-time.After(demoStop):
		h.kill()
	}
}

// echo is an address of the echo model beside its API.
func (d *demo) echo(path string) string {
	return strings.TrimSuffix(strings.TrimSuffix(d.info.Echo, "/"), "/v1") + path
}

// demoBreaker is how long a breaker of the demo's hosts stays open: a minute is too long to watch.
const demoBreaker = 2 * time.Second
