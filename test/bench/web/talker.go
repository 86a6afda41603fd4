package web

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/jobs"
)

// Talk is a call's order to the talker.
type Talk struct {
	Rate    int     `json:"rate"`  // partials a second
	Size    int     `json:"bytes"` // of each
	Seconds float64 `json:"seconds"`
}

// partials is how many the call gets in all.
func (t Talk) partials() int { return int(float64(t.Rate) * t.Seconds) }

// talk is one that goes on.
type talk struct {
	Talk
	job, to string
	began   time.Time
	sent    int
	part    []byte
}

// talker answers calls with partials in place of the pool, each as many as are due by the clock.
type talker struct {
	nc *nats.Conn

	mu  sync.Mutex
	all map[string]*talk // by job
}

// talkPause is the time between two looks at what is due.
const talkPause = 5 * time.Millisecond

// Talker stands in for the pool: what it takes to make partials is not what is measured.
func Talker(ctx context.Context, broker string) error {
	nc, err := nats.Connect(broker)
	if err != nil {
		return err
	}
	defer nc.Close()
	t := &talker{nc: nc, all: map[string]*talk{}}
	if _, err := nc.Subscribe(jobs.RPCSession+"*", t.call); err != nil {
		return err
	}
	if _, err := nc.Subscribe(contract.RPCJobsGet, t.get); err != nil {
		return err
	}
	if err := nc.Flush(); err != nil {
		return err
	}
	fmt.Println("ready")
	pause := time.NewTicker(talkPause)
	defer pause.Stop()
	for {
		select {
		case <-pause.C:
			t.send()
		case <-ctx.Done():
			return nil
		}
	}
}

func (t *talker) call(m *nats.Msg) {
	var body struct{ Args Talk }
	if err := json.Unmarshal(m.Data, &body); err != nil {
		return // the bench's own call
	}
	part, err := json.Marshal(map[string]string{"field": "answer", "chunk": strings.Repeat("x", body.Args.Size)})
	if err != nil {
		return
	}
	job := m.Header.Get(jobs.HeaderJob)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all[job] = &talk{Talk: body.Args, job: job, to: m.Reply, began: time.Now(), part: part}
}

// get is how the gateway's client looks for a call that takes long.
func (t *talker) get(m *nats.Msg) {
	_ = m.Respond([]byte(`{"ok":true,"result":{"outcome":"running","attempts":1}}`))
}

func (t *talker) send() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for job, c := range t.all {
		due := min(int(time.Since(c.began).Seconds()*float64(c.Rate)), c.partials())
		for ; c.sent < due; c.sent++ {
			_ = t.nc.PublishMsg(&nats.Msg{Subject: c.to, Data: c.part,
				Header: nats.Header{contract.HeaderPartial: {strconv.Itoa(c.sent)}, contract.HeaderAttempt: {"1"}, contract.HeaderJob: {job}}})
		}
		if c.sent == c.partials() {
			_ = t.nc.Publish(c.to, fmt.Appendf(nil, `{"ok":true,"attempt":1,"job":%q,"result":{}}`, job))
			delete(t.all, job)
		}
	}
}
