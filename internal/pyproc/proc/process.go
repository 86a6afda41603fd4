package proc

import (
	"log/slog"
	"sync"
	"time"
)

// logDrainTimeout is the end of a process to giving up on its last log lines.
const logDrainTimeout = time.Second

// Process is a child with what every child needs: somebody who waits for it, and somebody who reads what it prints.
type Process struct {
	Name    string
	Child   *Child
	Logs    *Logs
	Exited  chan struct{}  // closed when the process has ended
	Drained chan struct{}  // closed when both log pipes have ended
	All     sync.WaitGroup // its goroutines
}

// NewProcess is a child that nobody watches yet.
func NewProcess(name string, c *Child, log *slog.Logger) *Process {
	return &Process{
		Name: name, Child: c, Logs: newLogs(log.With("worker", name, "pid", c.PID)),
		Exited: make(chan struct{}), Drained: make(chan struct{}),
	}
}

// Watch starts the goroutines. Lines may come to its logs from elsewhere, until done is closed.
func (p *Process) Watch(done <-chan struct{}) {
	p.All.Go(func() {
		p.Child.Wait()
		close(p.Exited)
	})
	p.All.Go(p.Logs.run)
	p.All.Go(func() {
		var pipes sync.WaitGroup
		pipes.Go(func() { p.Logs.drain(p.Child.Stdout, "stdout", nil) })
		pipes.Go(func() { p.Logs.drain(p.Child.Stderr, "stderr", p.Logs.Tail) })
		pipes.Wait()
		close(p.Drained)
		<-done
		close(p.Logs.lines)
	})
}

// ExitsWithin waits for the end of the process, but no longer than d.
func (p *Process) ExitsWithin(d time.Duration) bool { return ClosedWithin(p.Exited, d) }

// ClosePipes gives the last lines a moment to come, counted from died.
func (p *Process) ClosePipes(died time.Time) {
	ClosedWithin(p.Drained, logDrainTimeout-time.Since(died))
	p.Child.Stdout.Close()
	p.Child.Stderr.Close()
}

// ClosedWithin waits until the channel is closed, but no longer than d.
func ClosedWithin(c <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c:
		return true
	case <-timer.C:
		return false
	}
}

// IsClosed reports whether the channel is closed.
func IsClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
