package pyproc

import (
	"log/slog"
	"sync"
	"time"
)

// process is a child with what every child needs: somebody who waits for it, and somebody who reads what it prints.
type process struct {
	name    string
	child   *child
	logs    *logs
	exited  chan struct{}  // closed when the process has ended
	drained chan struct{}  // closed when both log pipes have ended
	all     sync.WaitGroup // its goroutines
}

func newProcess(name string, c *child, log *slog.Logger) *process {
	return &process{
		name: name, child: c, logs: newLogs(log.With("worker", name, "pid", c.pid)),
		exited: make(chan struct{}), drained: make(chan struct{}),
	}
}

// watch starts the goroutines. Lines may come to its logs from elsewhere, until said is closed.
func (p *process) watch(said <-chan struct{}) {
	p.all.Go(func() {
		p.child.wait()
		close(p.exited)
	})
	p.all.Go(p.logs.run)
	p.all.Go(func() {
		var pipes sync.WaitGroup
		pipes.Go(func() { p.logs.drain(p.child.stdout, "stdout", nil) })
		pipes.Go(func() { p.logs.drain(p.child.stderr, "stderr", p.logs.tail) })
		pipes.Wait()
		close(p.drained)
		<-said
		close(p.logs.lines)
	})
}

func (p *process) exitsWithin(d time.Duration) bool { return closedWithin(p.exited, d) }

// closePipes gives the last lines a moment to come, counted from died.
func (p *process) closePipes(died time.Time) {
	closedWithin(p.drained, logDrainTimeout-time.Since(died))
	p.child.stdout.Close()
	p.child.stderr.Close()
}

func (p *process) protocolError(problem string, err error) *ProtocolError {
	return &ProtocolError{Worker: p.name, Problem: problem, Err: err}
}
