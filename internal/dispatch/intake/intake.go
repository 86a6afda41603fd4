// Package intake bounds what a dispatcher holds of requests. One that is beyond the bound is refused at once, without being read. So the
// connection is always emptied sooner than a crowd can fill it, and the broker, which drops connections that read too slowly, drops no
// dispatcher.
package intake

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/dspex/dspex/internal/service"
)

// Bounds of what a dispatcher holds of requests that have no answer, and of calls that no stream has taken yet. They bound what waits
// at the broker to be stored, too: on a disk that takes 10 MB a second, an acknowledgement comes within its time.
const (
	mostBytes    = 32 << 20
	mostRequests = 8192 // that wait for their turn or for their stream
)

// room counts what is held. The zero value holds nothing.
type room struct {
	mu    sync.Mutex
	bytes int
	calls int
	next  time.Time // when the last one that was refused may come back
	began time.Time // of a second in which what is done is counted
	done  int       // bytes
	rate  float64   // bytes a second
}

// place is the room of one request.
type place struct {
	in   *room
	size int
	over atomic.Bool
}

// take gives a request of size bytes a place. If there is no room for it, it may come back after retry.
func (i *room) take(now time.Time, size int) (p *place, retry time.Duration) {
	if retry := i.takes(now, size); retry > 0 {
		return nil, retry
	}
	return &place{in: i, size: size}, 0
}

// leave gives the place back: the request has its answer or is stored. It may be called again.
func (p *place) leave() {
	if p.over.CompareAndSwap(false, true) {
		p.in.gives(time.Now(), p.size)
	}
}

// takes counts a request of size bytes. If there is no room for it, it may come back after retry.
func (i *room) takes(now time.Time, size int) (retry time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.calls < mostRequests && (i.bytes+size <= mostBytes || i.calls == 0) {
		i.bytes += size
		i.calls++
		return 0
	}
	i.measure(now)
	// When half of what is there is done with, there is room for those who come back: one after the other, at half of the rate.
	first := now.Add(time.Duration(float64(i.bytes) / 2 / i.rate * float64(time.Second)))
	if i.next.Before(first) {
		i.next = first
	}
	i.next = i.next.Add(time.Duration(float64(2*size) / i.rate * float64(time.Second)))
	return min(max(i.next.Sub(now), leastRetry), mostRetry)
}

// gives ends what takes began.
func (i *room) gives(now time.Time, size int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.bytes -= size
	i.calls--
	i.done += size
	i.measure(now)
}

const (
	leastRate  = 1 << 20 // bytes a second, as long as nothing was measured
	leastRetry = 100 * time.Millisecond
	mostRetry  = 10 * time.Second
)

// measure computes how fast requests are done with, a second at a time.
func (i *room) measure(now time.Time) {
	spent := now.Sub(i.began)
	if spent < time.Second {
		return
	}
	i.rate = max(float64(i.done)/spent.Seconds(), leastRate)
	i.began, i.done = now, 0
}

// lines are queues of requests, each with a goroutine that serves it.
type lines struct {
	serving sync.WaitGroup
	over    chan struct{}
	once    sync.Once
}

func newLines() *lines { return &lines{over: make(chan struct{})} }

// line serves what is added with f, one at a time and in that order, until end. Nobody waits to add: there is room for all that the
// entrance lets in.
func (all *lines) line(f func(service.Request)) (add func(service.Request)) {
	line := make(chan service.Request, mostRequests)
	all.serving.Go(func() {
		for {
			select {
			case r := <-line:
				f(r)
			case <-all.over:
				for len(line) > 0 {
					f(<-line)
				}
				return
			}
		}
	})
	return func(r service.Request) { line <- r }
}

// end returns when all that was added is served.
func (all *lines) end() {
	all.once.Do(func() { close(all.over) })
	all.serving.Wait()
}
