//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/affinity"
)

// prober keeps one session of every partition busy and keeps who answered and when.
type prober struct {
	nc    *nats.Conn
	stop  context.CancelFunc
	ended sync.WaitGroup

	mu      sync.Mutex
	lanes   [partitions]lane
	changed chan struct{} // closed and recreated at every answer
}

// lane is what is known of one partition's session.
type lane struct {
	host string // that answered last
	at   time.Time
	bad  int // failures answered
}

// probePause is the time between an answer and the session's next call.
const probePause = 20 * time.Millisecond

// probeTimeout is longer than any recovery: a call that it ends is a failure of the product.
const probeTimeout = 2 * time.Minute

// newProber starts calling.
func newProber(ctx context.Context, url string) (*prober, error) {
	nc, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.ReconnectBufSize(-1))
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	p := &prober{nc: nc, stop: stop, changed: make(chan struct{})}
	for n, session := range onePerPartition() {
		p.ended.Go(func() { p.run(ctx, n, session) })
	}
	return p, nil
}

func (p *prober) close() {
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

func (p *prober) run(ctx context.Context, n int, session string) {
	for ctx.Err() == nil {
		host, err := p.call(ctx, session)
		p.mu.Lock()
		if err == nil {
			p.lanes[n].host, p.lanes[n].at = host, time.Now()
			close(p.changed)
			p.changed = make(chan struct{})
		} else if ctx.Err() == nil {
			p.lanes[n].bad++
		}
		p.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(probePause):
		}
	}
}

func (p *prober) call(ctx context.Context, session string) (host string, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	m, err := p.nc.RequestWithContext(ctx, "dspex.rpc.session."+session, callBody)
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

// owners reports which partitions each host answered for last.
func (p *prober) owners() map[string][]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	held := map[string][]int{}
	for n, l := range p.lanes {
		held[l.host] = append(held[l.host], n)
	}
	return held
}

// await returns when ok holds; it looks again at every answer.
func (p *prober) await(ctx context.Context, what string, ok func([]lane) bool) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
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
			return fmt.Errorf("%s: not within %v", what, probeTimeout)
		}
	}
}

// recovery waits until every given partition is answered by another host than gone since the fault, and returns how long each
// took, in seconds.
func (p *prober) recovery(ctx context.Context, gone string, which []int, fault time.Time) ([]float64, error) {
	first := map[int]time.Time{}
	err := p.await(ctx, "served elsewhere", func(lanes []lane) bool {
		for _, n := range which {
			if _, seen := first[n]; !seen && lanes[n].host != gone && lanes[n].at.After(fault) {
				first[n] = lanes[n].at
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

func (p *prober) failures() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	sum := 0
	for _, l := range p.lanes {
		sum += l.bad
	}
	return sum
}
