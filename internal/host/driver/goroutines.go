package driver

import (
	"context"
	"slices"
	"sync"
)

// Goroutines run what a job waits for: its reads, its call, its turn at the core. They are used again, since a new one grows its stack
// each time, which took a tenth of what a job costs.
type Goroutines struct {
	running sync.WaitGroup
	mu      sync.Mutex
	idle    []chan task // the one that was used last at the end
}

// task is a function, and who waits for its end.
type task struct {
	run  func()
	ends *sync.WaitGroup
}

// mostIdle goroutines are kept.
const mostIdle = 64

// Go runs f on a goroutine. ends counts it until it has returned. Goroutines that are idle end with work.
func (g *Goroutines) Go(work context.Context, ends *sync.WaitGroup, f func()) {
	ends.Add(1)
	t := task{f, ends}
	g.mu.Lock()
	if n := len(g.idle); n > 0 {
		next := g.idle[n-1]
		g.idle = g.idle[:n-1]
		g.mu.Unlock()
		next <- t
		return
	}
	g.mu.Unlock()
	g.running.Go(func() { g.serve(t, work.Done()) })
}

// serve runs a task, and then others until the host's work ends or enough goroutines are idle.
func (g *Goroutines) serve(t task, over <-chan struct{}) {
	mine := make(chan task, 1)
	for more := true; more; {
		t.run()
		t.ends.Done()
		t, more = g.next(mine, over)
	}
}

// next waits for a task.
func (g *Goroutines) next(mine chan task, over <-chan struct{}) (t task, more bool) {
	if !g.enter(mine) {
		return task{}, false
	}
	select {
	case t = <-mine:
	case <-over:
		if g.leave(mine) {
			return task{}, false
		}
		t = <-mine
	}
	return t, true
}

// enter puts a goroutine on the list. It reports false if there are enough.
func (g *Goroutines) enter(mine chan task) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.idle) >= mostIdle {
		return false
	}
	g.idle = append(g.idle, mine)
	return true
}

// leave takes a goroutine off the list. It reports false if it has just been given a task.
func (g *Goroutines) leave(mine chan task) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := slices.Index(g.idle, mine)
	if at >= 0 {
		g.idle = slices.Delete(g.idle, at, at+1)
	}
	return at >= 0
}
