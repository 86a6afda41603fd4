package proc

import (
	"context"
	"fmt"
	"runtime"
)

// Spawner starts all processes of a pool from one thread that lives as long as any of them: Linux sends the parent-death
// signal when the thread that forked ends, not the process.
type Spawner struct {
	starts chan func()
}

// NewSpawner makes a spawner, for which somebody must call Run.
func NewSpawner() *Spawner { return &Spawner{starts: make(chan func())} }

// Run ends with Close, and the thread with it: it is never unlocked.
func (s *Spawner) Run() {
	runtime.LockOSThread()
	for start := range s.starts {
		start()
	}
}

// Close ends Run, and with it all processes. Nothing may be started then.
func (s *Spawner) Close() { close(s.starts) }

// Do starts something on the thread and waits for it.
func (s *Spawner) Do(start func()) {
	done := make(chan struct{})
	s.starts <- func() {
		defer close(done)
		start()
	}
	<-done
}

// Spawn starts one process and waits for it to run its program.
func (s *Spawner) Spawn(_ context.Context, sp Spec) (*Child, error) {
	return s.start(sp, func() (*Child, error) { return Start(sp) })
}

func (s *Spawner) start(sp Spec, start func() (*Child, error)) (c *Child, err error) {
	s.Do(func() { c, err = start() })
	if err != nil {
		return nil, fmt.Errorf("cannot start %q: %w", sp.Command[0], err)
	}
	return c, nil
}
