package procs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/dspex/dspex"
)

// settings is the file of a host: size workers, one LM profile of that name, and more lines.
func settings(size int, profile string, more ...string) string {
	return fmt.Sprintf("pool_size: %d\noverflow: 0\nlm:\n  profiles:\n    %s: {provider: ollama, model: llama3}\n%s\n", size, profile, strings.Join(more, "\n"))
}

// reloaded is a host with a file of settings.
type reloaded struct {
	*process
	c    *dspex.Client
	path string
}

func (h *reloaded) write(text string) {
	h.t.Helper()
	if err := os.WriteFile(h.path, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// takes writes a file, sends SIGHUP and waits until the log has it once more.
func (h *reloaded) takes(text, says string) {
	h.t.Helper()
	h.write(text)
	before := strings.Count(h.said(), says)
	h.signal(syscall.SIGHUP)
	eventually(h.t, says, func(context.Context) error {
		if strings.Count(h.said(), says) == before {
			return errors.New("it is not in the log")
		}
		return nil
	})
}

func (h *reloaded) awaitPool(size int) {
	h.t.Helper()
	eventually(h.t, fmt.Sprintf("a pool of %d", size), func(ctx context.Context) error {
		list, err := h.c.Admin().Hosts(ctx)
		if hosts := list.Hosts; err == nil && (len(hosts) != 1 || hosts[0].PoolSize != size || hosts[0].ActiveWorkers != size || hosts[0].Capacity != 8*size) {
			err = fmt.Errorf("%+v", hosts)
		}
		return err
	})
}

func (h *reloaded) callWith(profile string) error {
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	_, err := h.c.ExecuteAnonymous(ctx, "echo", dspex.Args{}, dspex.WithLM(profile))
	return err
}

// reloadOverTheBroker has the host read a file with another size, then one with a fault.
func (h *reloaded) reloadOverTheBroker(size int) {
	h.t.Helper()
	for _, c := range []struct{ text, want string }{
		{settings(size, "late", "session_idle: 3h"), fmt.Sprintf("[{h1 %s [{breaker_failures 9 5 } {tenant_weights acme=3  } {pool_size 2 %d }] [{session_idle 1h0m0s 3h0m0s }] []}]", h.path, size)},
		{"pool_size: many\n", fmt.Sprintf("[{h1  [] [] [%s:1:12: pool_size must be a number, got \"many\"]}]", h.path)},
	} {
		h.write(c.text)
		done, err := h.c.Admin().ReloadHosts(h.t.Context(), "h1")
		if got := fmt.Sprint(done); err != nil || got != c.want {
			h.t.Errorf("got %v %v\nwant %s", got, err, c.want)
		}
	}
	h.awaitPool(size)
}

func TestADispatcherTakesOverItsAlertsAtSIGHUP(t *testing.T) {
	d := deploy(t)
	path := filepath.Join(t.TempDir(), "dispatcher.yaml")
	h := &reloaded{path: path, process: &process{t: t}}
	h.write("error_handler:\n  error_rate_threshold: 0.5\n")
	h.process = d.start("dispatcher", "d1", "--partitions", "4", "--config", path)
	d.host("h1").awaitReady()
	h.awaitReady()
	h.takes("error_handler:\n  error_rate_threshold: 0.2\nalert_destinations: [telemetry]\nreplicas: 3\ntenant_weights: {acme: 3}\n", "msg=config_reloaded")
	for _, want := range []string{"msg=config_taken key=error_handler.error_rate_threshold was=0.5 is=0.2", "msg=config_taken key=alert_destinations", "msg=config_taken key=tenant_weights is=\"acme=3\"", "msg=config_needs_restart key=replicas was=1 is=3"} {
		if said := h.said(); !strings.Contains(said, want) {
			t.Errorf("the log has no %q:\n%s", want, said)
		}
	}
	h.stop()
}

func TestSIGHUPTakesOverTheFileUnderLoadAndNoJobIsLost(t *testing.T) {
	d := deploy(t)
	d.start("dispatcher", "d1", "--partitions", "4")
	path := filepath.Join(t.TempDir(), "host.yaml")
	h := &reloaded{path: path, process: &process{t: t}}
	h.write(settings(2, "early"))
	h.process = d.start("worker-host", "h1", "--engine", "stub", "--slots", "8", "--config", path).awaitReady()
	h.c = d.client()
	load := startWriters(t, h.c, 12)
	defer load.wg.Wait()
	defer load.stop()
	load.awaitAccepted(50)
	h.awaitPool(2)

	h.takes(settings(4, "early"), "msg=config_taken key=pool_size was=2 is=4")
	h.awaitPool(4)
	load.awaitAccepted(100)
	h.takes(settings(1, "late"), "msg=config_taken key=lm")
	h.awaitPool(1)
	load.awaitAccepted(100)
	if err := h.callWith("late"); err != nil {
		t.Errorf("a call with the profile that is there now: %v", err)
	}
	if err := h.callWith("early"); err == nil || !strings.Contains(err.Error(), "late") {
		t.Errorf("a call with the profile that was there: %v", err)
	}

	h.takes(settings(300, "later", "checkout_timout: 7s"), "msg=config_unchanged")
	if said := h.said(); !strings.Contains(said, "host.yaml:6:1: unknown key checkout_timout: did you mean checkout_timeout?") {
		t.Errorf("what is wrong has no place:\n%s", said)
	}
	h.takes(settings(300, "later"), "msg=config_unchanged")
	if said := h.said(); !strings.Contains(said, "host.yaml:1:12: pool_size must be 1 to 256, got 300") {
		t.Errorf("what is out of range has no place:\n%s", said)
	}
	if err := h.callWith("late"); err != nil {
		t.Errorf("a call after a file that was refused: %v", err)
	}
	h.takes(settings(2, "late", "session_idle: 2h", "circuit_breaker: {failure_threshold: 9}", "tenant_weights: {acme: 3}"), "msg=config_reloaded")
	h.awaitPool(2)
	for _, want := range []string{"msg=config_needs_restart key=session_idle was=1h0m0s is=2h0m0s", "msg=config_taken key=circuit_breaker.failure_threshold was=5 is=9", "msg=config_taken key=tenant_weights is=\"acme=3\""} {
		if said := h.said(); !strings.Contains(said, want) {
			t.Errorf("the log has no %q:\n%s", want, said)
		}
	}
	h.reloadOverTheBroker(3)
	load.awaitAccepted(50)
	load.stop()
	load.wg.Wait()
	h.stop()
}
