// Package agent is what the bench and the processes that carry out its orders have in common.
package agent

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// Order is the bench's request to an agent, one JSON line on its stdin; the answer is a line on its stdout.
type Order struct {
	Do      string  `json:"do"`
	Window  int     `json:"window"`            // in flight
	Seconds float64 `json:"seconds,omitempty"` // until no new one is started, or
	Count   int     `json:"count,omitempty"`   // this many in all
	Size    int     `json:"size,omitempty"`    // bytes of the argument
	Body    string  `json:"body,omitempty"`
	Fresh   string  `json:"fresh,omitempty"` // prefix of sessions that nobody has used
	Named   bool    `json:"named,omitempty"` // each job has an id of its own
}

// Answer is what came of an order.
type Answer struct {
	Count   int     `json:"count"`
	Seconds float64 `json:"seconds"`
	P50     float64 `json:"p50"` // microseconds
	P99     float64 `json:"p99"`
	CPU     float64 `json:"cpu,omitempty"` // microseconds for one, where the agent counts them
	RSS     float64 `json:"rss,omitempty"` // MB at the end, where the agent looks
	Error   string  `json:"error,omitempty"`
}

// Rate is how many were done in a second.
func (a Answer) Rate() float64 { return float64(a.Count) / a.Seconds }

// Obey carries out orders until stdin ends.
func Obey(do func(Order) (Answer, error)) error {
	in := bufio.NewScanner(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	for in.Scan() {
		var o Order
		err := json.Unmarshal(in.Bytes(), &o)
		var a Answer
		if err == nil {
			a, err = do(o)
		}
		if err != nil {
			a.Error = err.Error()
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
	return in.Err()
}

// Operation starts one operation and has done called at its end. A lane has one operation in flight; n counts all lanes'
// operations without a gap in each lane.
type Operation func(lane, n int, done func(error))

// Window keeps o.Window operations in flight until the time is over or the count is reached, and waits for their ends.
func Window(o Order, op Operation) (Answer, error) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	lanes := make([][]float64, o.Window)
	began := time.Now()
	until := began.Add(time.Duration(o.Seconds * float64(time.Second)))
	var next func(lane, turn int)
	next = func(lane, turn int) {
		n := lane + turn*o.Window
		if o.Count > 0 && n >= o.Count || o.Count == 0 && !time.Now().Before(until) {
			wg.Done()
			return
		}
		at := time.Now()
		op(lane, n, func(err error) {
			if err != nil {
				mu.Lock()
				first = errors.Join(first, err)
				mu.Unlock()
				wg.Done()
				return
			}
			lanes[lane] = append(lanes[lane], float64(time.Since(at).Nanoseconds())/1000)
			next(lane, turn+1)
		})
	}
	for lane := range o.Window {
		wg.Add(1)
		next(lane, 0)
	}
	wg.Wait()
	return Summary(time.Since(began), slices.Concat(lanes...)), first
}

// Summary sorts the latencies of what was done.
func Summary(took time.Duration, latencies []float64) Answer {
	a := Answer{Count: len(latencies), Seconds: took.Seconds()}
	if a.Count > 0 {
		slices.Sort(latencies)
		a.P50, a.P99 = latencies[a.Count/2], latencies[a.Count*99/100]
	}
	return a
}

// Sessions is how many sessions take turns: more than run at once, few enough that each is used again.
const Sessions = 10_000

// Session is the n-th of them.
func Session(n int) string { return fmt.Sprintf("user_%d", n%Sessions) }

// Argument makes the one argument of echo.
func Argument(size int) string { return strings.Repeat("x", size) }

// CallBody is what a client sends: about 100 bytes.
var CallBody = []byte(`{"command": "echo", "args": {"text": "` + Argument(60) + `"}}`)
