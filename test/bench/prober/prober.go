//go:build linux

// Package prober calls a session of each partition without a pause, and keeps who answered and when.
package prober

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/affinity"
	"github.com/dspex/dspex/test/bench/agent"
)

// Prober keeps one session of every partition busy and keeps who answered and when.
type Prober struct {
	nc    *nats.Conn
	stop  context.CancelFunc
	ended sync.WaitGroup

	mu      sync.Mutex
	lanes   [partitions]Lane
	changed chan struct{} // closed and recreated at every answer
}

// Lane is what is known of one partition's session.
type Lane struct {
	Host string // that answered last
	At   time.Time
	Bad  int // Failures answered
}

// partitions of the jobs stream, the default of a deployment.
const partitions = 64

// probePause is the time between an answer and the session's next call.
const probePause = 20 * time.Millisecond

// Timeout is longer than any recovery: a call that it ends is a failure of the product.
const Timeout = 2 * time.Minute

// New starts calling.
func New(ctx context.Context, url string) (*Prober, error) {
	nc, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.ReconnectBufSize(-1))
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	p := &Prober{nc: nc, stop: stop, changed: make(chan struct{})}
	for n, session := range onePerPartition() {
		p.ended.Go(func() { p.run(ctx, n, session) })
	}
	return p, nil
}

// Close stops it.
func (p *Prober) Close() {
	p.stop()
	p.ended.Wait()
	p.nc.Close()
}

// onePerPartition returns a session id of each partition.
func onePerPartition() []string {
	names, missing := make([]string, partitions), partitions
	for i := 0; missing > 0; i++ {
		id := fmt.Sprintf("probe_%d", i)
		if n := affinity.Partition(id, partitions); names[n] == "" {
			names[n] = id
			missing--
		}
	}
	return names
}

func (p *Prober) run(ctx context.Context, n int, session string) {
	for ctx.Err() == nil {
		host, err := p.call(ctx, session)
		p.mu.Lock()
		if err == nil {
			p.lanes[n].Host, p.lanes[n].At = host, time.Now()
			close(p.changed)
			p.changed = make(chan struct{})
		} else if ctx.Err() == nil {
			p.lanes[n].Bad++
		}
		p.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(probePause):
		}
	}
}

func (p *Prober) call(ctx context.Context, session string) (host string, err error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	m, err := p.nc.RequestWithContext(ctx, "dspex.rpc.session."+session, agent.CallBody)
	if err != nil {
		return "", err
	}
	var r struct {
		OK      bool
		Session struct{ Host string }
	}
	if err := json.Unmarshal(m.Data, &r); err != nil || !r.OK {
		return "", fmt.Errorf("answer %s: %w", m.Data, err)
	}
	return r.Session.Host, nil
}

// Owners reports which partitions each host answered for last.
func (p *Prober) Owners() map[string][]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	held := map[string][]int{}
	for n, l := range p.lanes {
		held[l.Host] = append(held[l.Host], n)
	}
	return held
}

// Await returns when ok holds; it looks again at every answer.
func (p *Prober) Await(ctx context.Context, what string, ok func([]Lane) bool) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	for {
		p.mu.Lock()
		good, changed := ok(p.lanes[:]), p.changed
		p.mu.Unlock()
		if good {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%s: not within %v", what, Timeout)
		}
	}
}

// Recovery waits until every given partition is answered by another host than gone since the fault, and returns how long each
// took, in seconds.
func (p *Prober) Recovery(ctx context.Context, gone string, which []int, fault time.Time) ([]float64, error) {
	first := map[int]time.Time{}
	err := p.Await(ctx, "served elsewhere", func(lanes []Lane) bool {
		for _, n := range which {
			if _, seen := first[n]; !seen && lanes[n].Host != gone && lanes[n].At.After(fault) {
				first[n] = lanes[n].At
			}
		}
		return len(first) == len(which)
	})
	var took []float64
	for _, at := range first {
		took = append(took, at.Sub(fault).Seconds())
	}
	return took, err
}

// Failures counts those that were answered.
func (p *Prober) Failures() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	sum := 0
	for _, l := range p.lanes {
		sum += l.Bad
	}
	return sum
}
