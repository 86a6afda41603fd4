package web

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/test/bench/agent"
)

// Pace sends calls at an even rate, whatever becomes of them, until ctx ends, and returns how many were answered. They go to sessions in turn,
// each to the next one.
func Pace(ctx context.Context, nc *nats.Conn, rate int, session func(n int) string) (int, error) {
	inbox := nc.NewInbox()
	var answered atomic.Int64
	sub, err := nc.Subscribe(inbox, func(*nats.Msg) { answered.Add(1) })
	if err != nil {
		return 0, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	began, sent := time.Now(), 0
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		for due := int(time.Since(began).Seconds() * float64(rate)); sent < due; sent++ {
			if err := nc.PublishRequest(jobs.RPCSession+session(sent), inbox, agent.CallBody); err != nil {
				return 0, err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return int(answered.Load()), nil
		}
	}
}

// View follows a page's live figures until ctx ends.
func View(ctx context.Context, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK || !strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
		return fmt.Errorf("%s: status %d", url, response.StatusCode)
	}
	b := make([]byte, 32<<10)
	for err == nil {
		_, err = response.Body.Read(b)
	}
	if ctx.Err() == nil {
		return err
	}
	return nil
}
