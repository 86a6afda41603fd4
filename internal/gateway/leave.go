package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/dspex/dspex"
)

// Cancelling a job without a waiting client. Its request may still be on its way to the pool, which has no such job yet.
const (
	leftTries = 5
	leftPause = 500 * time.Millisecond
	leftTime  = 20 * time.Second // of one try
)

// cancelLeft cancels a job whose client went away, unless it was the gateway that did.
func (g *Gateway) cancelLeft(ctx context.Context, job dspex.JobRef) {
	g.abandon(ctx, who(ctx).client, job)
}

func (g *Gateway) abandon(ctx context.Context, client *dspex.Client, job dspex.JobRef) {
	if !g.ending.Load() && Abandon(ctx, client, job) {
		g.metrics.left.Inc()
	}
}

// Abandon cancels a job without a waiting client, and reports whether it did. ctx may have ended.
func Abandon(ctx context.Context, client *dspex.Client, job dspex.JobRef) bool {
	ctx = context.WithoutCancel(ctx)
	for range leftTries {
		try, end := context.WithTimeout(ctx, leftTime)
		_, err := client.Cancel(try, job)
		end()
		if e, ok := errors.AsType[*dspex.Error](err); !ok || e.Code != dspex.CodeJobUnknown {
			return true
		}
		<-time.After(leftPause)
	}
	return false
}
