package host

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/jobs"
)

// Heartbeat is what a host says of itself every second on dspex.hb.<host>.
type Heartbeat struct {
	Host           string `json:"host"`
	Incarnation    string `json:"incarnation"`
	Started        int64  `json:"started"` // unix ms, by the broker's clock
	Capacity       int    `json:"capacity"`
	Free           int    `json:"free"`
	Workers        int    `json:"workers"`
	Active         int    `json:"active"`
	Available      int    `json:"available"`
	Requests       int64  `json:"requests"`
	Errors         int64  `json:"errors"`
	RunMillis      int64  `json:"run_ms"`
	Sessions       int64  `json:"sessions"`
	Engine         string `json:"engine,omitempty"`
	Full           bool   `json:"full,omitempty"` // the broker's store has no room: the host has stopped running jobs
	Hits           int64  `json:"hits"`           // session jobs that ran where their session was warm
	Misses         int64  `json:"misses"`         // whose session was warm nowhere
	Moves          int64  `json:"moves"`          // whose session was warm in a worker that had no free slot
	IdleMillis     int64  `json:"idle_ms"`        // how long it keeps an idle session
	CheckoutMillis int64  `json:"checkout_ms"`    // how long a call may wait for a slot

	Breakers []string       `json:"breakers,omitempty"` // those that are open, 16 at most
	Stuck    map[string]int `json:"stuck,omitempty"`    // step -> jobs that are held up at it
	Busy     map[int]int64  `json:"busy,omitempty"`     // partition -> sessions with work
	Releases bool           `json:"releases"`           // understands dspex.ctl.<host>.release
	Stopping bool           `json:"stopping,omitempty"` // it finishes what runs and gives its partitions back
	Leaving  bool           `json:"leaving,omitempty"`  // the last beat
}

// announce refuses a second host of the same name and returns the loop that says that this one lives.
func (h *Host) announce(ctx context.Context) (func(context.Context), error) {
	subject := jobs.SubjectControl + h.cfg.Name + ".ping"
	bounded, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if m, err := h.nc.RequestWithContext(bounded, subject, nil); err == nil {
		return nil, fmt.Errorf("a host named %q is running already (incarnation %s): give this one another name", h.cfg.Name, m.Data)
	}
	sub, err := h.nc.Subscribe(subject, func(m *nats.Msg) { _ = m.Respond([]byte(h.incarnation)) })
	if err != nil {
		return nil, fmt.Errorf("subscribe %s: %w", subject, err)
	}
	ask := jobs.SubjectControl + h.cfg.Name + ".beat"
	now, err := h.nc.Subscribe(ask, func(m *nats.Msg) { _ = m.Respond(h.heartbeat(false)) })
	if err != nil {
		return nil, fmt.Errorf("subscribe %s: %w", ask, err)
	}
	release, err := h.nc.Subscribe(jobs.SubjectControl+h.cfg.Name+".release", h.onRelease)
	if err != nil {
		return nil, fmt.Errorf("subscribe to releases: %w", err)
	}
	return func(ctx context.Context) {
		defer func() { _, _, _ = sub.Unsubscribe(), now.Unsubscribe(), release.Unsubscribe() }()
		t := time.NewTicker(time.Second)
		defer t.Stop()
		for {
			h.beat(false)
			select {
			case <-ctx.Done():
				h.beat(true)
				return
			case <-t.C:
			}
		}
	}, nil
}

func (h *Host) beat(leaving bool) {
	_ = h.nc.Publish(jobs.SubjectHeartbeat+h.cfg.Name, h.heartbeat(leaving)) // the next beat follows
}

func (h *Host) heartbeat(leaving bool) []byte {
	size, active, available := h.cfg.Pool.Workers()
	engine := ""
	if h.cfg.Engine != nil {
		engine = h.cfg.Engine()
	}
	b, err := json.Marshal(Heartbeat{
		Workers: size, Active: active, Available: available,
		Host: h.cfg.Name, Incarnation: h.incarnation, Started: h.started, Capacity: h.cfg.Capacity, Free: h.cfg.Pool.Free(),
		Requests: h.stats.Requests.Load(), Errors: h.stats.Errors.Load(), RunMillis: h.stats.RunMillis.Load(),
		Sessions: h.stats.Sessions.Load(), Engine: engine, Full: h.full.Load() > 0, Hits: h.stats.Hits.Load(), Misses: h.stats.Misses.Load(), Moves: h.stats.Moves.Load(),
		IdleMillis: h.cfg.SessionIdle.Milliseconds(), CheckoutMillis: h.cfg.CheckoutTimeout.Milliseconds(), Busy: h.busy(), Releases: true, Stopping: h.stopping.Load(), Leaving: leaving,
		Breakers: h.openBreakers(), Stuck: h.stuck.steps(),
	})
	if err != nil {
		panic(err) // text and numbers always marshal
	}
	return b
}

// busy tells how many sessions of each partition have work.
func (h *Host) busy() map[int]int64 {
	busy := map[int]int64{}
	h.parts.Range(func(n, p any) bool {
		if count := p.(*partition).busy.Load(); count > 0 {
			busy[n.(int)] = count
		}
		return true
	})
	return busy
}
