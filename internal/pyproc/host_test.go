//go:build linux || darwin

package pyproc

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// hostMain is a host of its own that a test kills: two workers, one of them in a call that does not look at its input.
func hostMain() {
	cfg := testConfig(os.Getenv("MODE"))
	cfg.Env = append(cfg.Env, "FIFO="+os.Getenv("FIFO"))
	cfg.Size = 2
	p := New(cfg)
	go p.Run(context.Background())
	// Many threads come and go: the parent-death signal must not fire for any of them.
	for range 50 {
		done := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(done)
		}()
		<-done
	}
	s, err := p.Checkout(context.Background(), 0, Alone)
	if err != nil {
		fmt.Println("failed:", err)
		return
	}
	other, err := p.Checkout(context.Background(), 0)
	if err != nil {
		fmt.Println("failed:", err)
		return
	}
	if _, err := other.Call(context.Background(), callBody("echo", 0), nil); err != nil {
		fmt.Println("failed:", err)
		return
	}
	go s.Call(context.Background(), callBody("freeze", 0), func([]byte) { fmt.Println("both are there") })
	select {}
}

func TestKilledHostLeavesNoWorkers(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Log("only Linux has a parent-death signal: a worker that does not read outlives its host elsewhere")
		return
	}
	path, gone := fifo(t)
	host := exec.Command(os.Args[0])
	host.Env = []string{"DSPEX_TEST=host", "FIFO=" + path, "GORACE=atexit_sleep_ms=0"}
	host.Stderr = os.Stderr
	out, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "both are there" {
		t.Errorf("host says %q, %v", line, err)
	}
	host.Process.Signal(syscall.SIGKILL)
	host.Wait()
	gone(2)
}
