//go:build linux

package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

// operation starts one operation and has done called at its end. A lane has one operation in flight; n counts all lanes'
// operations without a gap in each lane.
type operation func(lane, n int, done func(error))

// window keeps o.Window operations in flight until the time is over or the count is reached, and waits for their ends.
func window(o order, op operation) (answer, error) {
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
	return summary(time.Since(began), slices.Concat(lanes...)), first
}

func summary(took time.Duration, latencies []float64) answer {
	a := answer{Count: len(latencies), Seconds: took.Seconds()}
	if a.Count > 0 {
		slices.Sort(latencies)
		a.P50, a.P99 = latencies[a.Count/2], latencies[a.Count*99/100]
	}
	return a
}

// replies is one subscription for the answers to all lanes.
type replies struct {
	prefix string
	wait   []func(*nats.Msg)
}

// maxLanes bounds the lanes that may wait for a reply.
const maxLanes = 4096

// newReplies subscribes. Where calls are answered, an empty message is no reply: it follows the last reply to another account. A confirmed
// acknowledgement is nothing but an empty message.
func newReplies(nc *nats.Conn, empty bool) (*replies, error) {
	r := &replies{prefix: nc.NewInbox() + ".", wait: make([]func(*nats.Msg), maxLanes)}
	_, err := nc.Subscribe(r.prefix+"*", func(m *nats.Msg) {
		if !empty && len(m.Data) == 0 && len(m.Header) == 0 {
			return
		}
		lane := 0
		for _, c := range m.Subject[len(r.prefix):] {
			lane = lane*10 + int(c-'0')
		}
		if f := r.wait[lane]; f != nil {
			r.wait[lane] = nil
			f(m)
		}
	})
	return r, err
}

// failure reports what is wrong with a reply.
func failure(m *nats.Msg) error {
	if text := m.Header.Get("Nats-Service-Error"); text != "" {
		return errors.New(text)
	}
	if status := m.Header.Get("Status"); status != "" {
		return errors.New("status " + status)
	}
	return nil
}

// sessions is how many sessions take turns: more than run at once, few enough that each is used again.
const sessions = 10_000

func session(n int) string { return fmt.Sprintf("user_%d", n%sessions) }

// argument makes the one argument of echo.
func argument(size int) string { return strings.Repeat("x", size) }

// callBody is what a client sends: about 100 bytes.
var callBody = []byte(`{"command": "echo", "args": {"text": "` + argument(60) + `"}}`)

// stored are the values of one job of callBody as a host writes them: the parts are measured with the same bytes.
type stored struct{ reply, head, record, result []byte }

func samples() stored {
	value := wire.AppendStr(wire.AppendStr(wire.AppendMap(nil, 1), "text"), argument(60))
	reply := (&jobs.Reply{Job: "q123456", Attempt: 1, Session: session(1), Host: "bench", Worker: "bench/1", State: jobs.None,
		Engine: "stub", Result: value}).Append(nil)
	now := time.Now()
	inbox := "_INBOX.0123456789abcdefghijkl.12"
	last := &jobs.Outcome{Job: "q123456", Sequence: 123456, Epoch: 70, Attempt: 1, Kind: jobs.Succeeded, Mode: jobs.ModeCall,
		ReplyTo: inbox, Type: jobs.JSON, Body: reply}
	record := &jobs.Record{Stream: now.UnixNano(), LastSequence: 123456, Created: now, Updated: now, Jobs: 12, Host: "bench",
		Worker: "bench/1", Last: last}
	result := &jobs.Result{Session: session(1), Job: "q123456", Sequence: 123456, Attempt: 1, Kind: jobs.Succeeded, Body: reply, Stored: now}
	head := &jobs.AttemptRecord{Stream: now.UnixNano(), Epoch: 70, Sequence: 123456, Attempt: 1}
	return stored{reply, head.Append(nil), record.Append(nil), result.Append(nil)}
}
