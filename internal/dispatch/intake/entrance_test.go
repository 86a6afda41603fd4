package intake

import (
	"bytes"
	"slices"
	"sync"
	"testing"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/service"
)

// asked is a request of a test.
type asked struct {
	service.Request
	body []byte
	n    int
}

func (a asked) Data() []byte { return a.body }

func TestABurstIsRefusedWhileAHandlerIsBusyAndTheRestKeepsItsOrder(t *testing.T) {
	var mu sync.Mutex
	said := map[int]*jobs.Error{}
	en := New(func(r service.Request, e *jobs.Error) {
		mu.Lock()
		defer mu.Unlock()
		said[r.(asked).n] = e
	})
	en.Largest = 1 << 19
	var served []int
	busy := make(chan struct{})
	take := en.Jobs(func(r service.Request) {
		<-busy
		served = append(served, r.(*held).Request.(asked).n)
		Stored(r)
	})
	for n := range 200 { // returns, though nothing is served
		take(asked{body: bytes.Repeat([]byte(" "), 500_000), n: n})
	}
	take(asked{body: make([]byte, 600_000), n: 200})
	close(busy)
	en.End()
	if len(served) != mostBytes/500_000 || !slices.IsSorted(served) {
		t.Errorf("served %v", served)
	}
	for n := len(served); n < 200; n++ {
		if e := said[n]; e == nil || e.Code != jobs.CodeOverloaded || e.RetryAfter == 0 {
			t.Fatalf("%d: %v", n, e)
		}
	}
	if e := said[200]; e == nil || e.Code != jobs.CodeTooLarge {
		t.Errorf("the one that fits nowhere: %v", e)
	}
	if en.room.bytes != 0 || en.room.calls != 0 {
		t.Errorf("%d bytes of %d requests are held at the end", en.room.bytes, en.room.calls)
	}
}
