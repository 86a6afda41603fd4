package e2e

import (
	"bytes"
	"fmt"
	"os"
	"sync"

	"github.com/dspex/dspex/internal/programtest"
)

// dev is a running `dspex dev`.
type dev struct {
	*programtest.Running
	url string
	log log
}

// log keeps what a process wrote.
type log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// startDev starts `dspex dev` with more arguments and variables and returns when it is ready.
func startDev(env []string, dir string, args ...string) (*dev, error) {
	cmd := programtest.Guarded(binary, append([]string{"dev", "--listen", "127.0.0.1:0", "--workers", "2"}, args...)...)
	d := &dev{}
	cmd.Env, cmd.Dir, cmd.Stderr = append(os.Environ(), env...), dir, &d.log
	var err error
	if d.Running, err = programtest.Start(cmd); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, d.log.String())
	}
	d.url = d.Ready
	return d, nil
}
