package sessions

import (
	"context"
	"fmt"
	"time"
)

// reset requests everything un-acked again: a reconnect can strand deliveries until AckWait. It does so each time, also
// while nothing has come since the last reset: what came may have been lost with the connection.
func (p *partition) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing {
		return
	}
	p.resetting, p.again = true, true
	if !p.requesting {
		p.requesting = true
		p.owned.Running.Go(p.requestReset)
	}
}

func (p *partition) requestReset() {
	for p.needsReset() {
		ctx, cancel := context.WithTimeout(p.owned.Work, 5*time.Second)
		err := p.on.ResetConsumer(ctx, p.want.Name)
		cancel()
		if err != nil {
			p.end(fmt.Errorf("reset consumer: %w", err))
		}
		p.mu.Lock()
		p.answered = time.Now()
		p.mu.Unlock()
	}
}

func (p *partition) needsReset() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requesting = p.again && !p.closing
	p.again = false
	return p.requesting
}

// resetPatience is how long after a reset deliveries may come that were under way before; later the first one behind it is lost.
const resetPatience = 5 * time.Second

// inOrder judges a delivery by its consumer sequence: one puller gets all of them, so a gap is a loss.
func (p *partition) inOrder(sequence uint64) bool {
	p.mu.Lock()
	if p.resetting && sequence == 1 {
		p.resetting, p.next = false, 1
	}
	gap := !p.resetting && sequence != p.next
	ok := !p.closing && !p.resetting && !gap
	if ok {
		p.next++
	}
	lost := p.resetting && !p.requesting && time.Since(p.answered) > resetPatience
	p.mu.Unlock()
	if gap || lost {
		p.reset()
	}
	return ok
}

// compareEvery is how often an owner compares what has come with what the broker has sent. A lost delivery that no other one follows
// shows in nothing else until AckWait is over.
const compareEvery = 20 * time.Second

// compare requests everything un-acked again if a delivery is missing, and was at the comparison before.
func (p *partition) compare(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	sent, err := p.on.Sent(ctx, p.want.Name)
	if err == nil && p.misses(sent) {
		p.on.Log.Warn("delivery_lost", "partition", p.owned.N, "epoch", p.epoch)
		p.reset()
	}
}

// misses reports whether the delivery that is next was sent long ago. sent: how many were.
func (p *partition) misses(sent uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := p.next
	if p.resetting {
		next = 1
	}
	before := p.missing
	p.missing = 0
	if sent >= next && !p.requesting {
		p.missing = next
	}
	return p.missing != 0 && p.missing == before
}
