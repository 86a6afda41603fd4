package logfeed

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/contract"
)

// Serve answers requests for the last lines, and sends new ones while somebody follows, until ctx ends. What is lost while the broker is
// away is counted.
func (f *Feed) Serve(ctx context.Context, nc *nats.Conn) error {
	sub, err := nc.Subscribe(contract.SubjectLogs, func(m *nats.Msg) { f.answer(m, int(min(maxAnswer, nc.MaxPayload()/2))) })
	if err != nil {
		return fmt.Errorf("subscribe to requests for the log: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case text := <-f.queue:
			f.send(nc, text)
		case <-tick.C:
			f.report(nc)
		case <-ctx.Done():
			for range len(f.queue) {
				f.send(nc, <-f.queue)
			}
			return nil
		}
	}
}

// send publishes a line below its level.
func (f *Feed) send(nc *nats.Conn, text []byte) {
	if err := nc.Publish(contract.SubjectLog+f.process+"."+levels[levelOf(text)], text); err != nil {
		f.mu.Lock()
		f.dropped++
		f.mu.Unlock()
	}
}

// report sends how many lines were dropped.
func (f *Feed) report(nc *nats.Conn) {
	f.mu.Lock()
	n := f.dropped
	if !time.Now().Before(f.until) {
		n, f.dropped = 0, 0 // nobody misses them
	}
	f.mu.Unlock()
	if n == 0 {
		return
	}
	text, err := json.Marshal(line{At: time.Now().UTC(), Level: "warn", Message: "log_lines_dropped", Process: f.process, Name: f.name, Fields: map[string]int{"lines": n}})
	if err != nil {
		panic(err) // texts and numbers always marshal
	}
	if nc.Publish(contract.SubjectLog+f.process+".warn", text) != nil {
		return
	}
	f.mu.Lock()
	f.dropped -= n
	f.mu.Unlock()
}

// ask is a request.
type ask struct {
	Follow bool   `json:"follow"`
	Tail   int    `json:"tail"`
	Level  string `json:"level"`
}

// answer is what a process sends back.
type answer struct {
	Process string            `json:"process"`
	Name    string            `json:"name"`
	Lines   []json.RawMessage `json:"lines"` // the oldest first
	LeftOut int               `json:"left_out,omitempty"`
	Error   string            `json:"error,omitempty"`
}

func (f *Feed) answer(m *nats.Msg, room int) {
	reply := answer{Process: f.process, Name: f.name, Lines: []json.RawMessage{}}
	var request ask
	var err error
	if len(m.Data) > 0 {
		err = json.Unmarshal(m.Data, &request)
	}
	level := 0
	if err == nil && request.Level != "" {
		if level = slices.Index(levels[:], request.Level); level < 0 {
			err = fmt.Errorf("level must be info, warn or error, got %.20q", request.Level)
		}
	}
	switch {
	case err != nil:
		reply.Error = err.Error()
	default:
		if request.Follow {
			f.mu.Lock()
			f.until = time.Now().Add(followed)
			f.mu.Unlock()
		}
		reply.Lines, reply.LeftOut = f.last(request.Tail, level, room)
	}
	if m.Reply == "" {
		return
	}
	var body bytes.Buffer
	to := json.NewEncoder(&body)
	to.SetEscapeHTML(false) // lines have the size that was counted
	if err := to.Encode(reply); err != nil {
		panic(err) // the lines are JSON
	}
	_ = m.Respond(body.Bytes())
}

// last returns the last lines of a level or above, the oldest first.
func (f *Feed) last(most, level, room int) (lines []json.RawMessage, leftOut int) {
	f.mu.Lock()
	var all []entry
	for i := level; i < len(levels); i++ {
		for _, e := range f.rings[i].entries {
			if e.seq > 0 {
				all = append(all, e)
			}
		}
	}
	f.mu.Unlock()
	slices.SortFunc(all, func(a, b entry) int { return cmp.Compare(b.seq, a.seq) }) // the newest first
	all = all[:max(0, min(most, len(all)))]
	lines = []json.RawMessage{}
	for i, e := range all {
		if room -= len(e.text); room < 0 {
			leftOut = len(all) - i
			break
		}
		lines = append(lines, e.text)
	}
	slices.Reverse(lines)
	return lines, leftOut
}
