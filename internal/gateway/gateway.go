// Package gateway serves dspex over HTTP, for those who have no NATS. It is a client of the contract like any other: what it can do,
// a Go program with package dspex can do as well.
package gateway

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/gateway/dashboard"
	"github.com/dspex/dspex/internal/tokens"
)

// Gateway answers HTTP requests with a client.
type Gateway struct {
	client  *dspex.Client  // of the tenant that there is without tenants
	tokens  *tokens.Keeper // nil: every caller is the gateway's user
	cfg     Config
	metrics *metrics
	ready   readiness
	feeds   *feeds
	board   *dashboard.Server
	ending  atomic.Bool // the gateway itself leaves its clients
}

// Close ends what goes on without a request: the calls whose partial output is kept. Their jobs go on.
func (g *Gateway) Close() {
	g.board.Close()
	g.feeds.close()
}

const (
	readyTime = 5 * time.Second // of one check of the pool
	readyFor  = time.Second     // an answer counts for as long
)

// readiness queries the pool once for all callers.
type readiness struct {
	connected func() bool
	ask       func(context.Context) (dspex.Health, error)

	mu   sync.Mutex
	at   time.Time
	last error
}

// now returns why the pool does not serve, nil if it does.
func (r *readiness) now(ctx context.Context) error {
	if !r.connected() {
		return errNoBroker
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.at.IsZero() && time.Since(r.at) < readyFor {
		return r.last
	}
	ctx, end := context.WithTimeout(context.WithoutCancel(ctx), readyTime)
	defer end()
	_, r.last = r.ask(ctx)
	r.at = time.Now()
	return r.last
}

// errNoBroker is the answer, without a wait, while no call can be served.
var errNoBroker = &dspex.Error{Category: dspex.ErrConnection, Code: contract.CodeBroker, Message: "the gateway has no connection to the broker", Retryable: true}
