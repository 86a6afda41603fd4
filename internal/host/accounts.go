package host

import (
	"context"
	"time"

	"github.com/dspex/dspex/internal/stream"
)

// accountsPause is the time between looks whether tenants have got accounts of their own: that happens once in a deployment's life.
const accountsPause = 10 * time.Second

func (h *Host) learnAccounts(ctx context.Context) error {
	have, err := stream.AccountsOf(ctx, h.js)
	if err == nil {
		h.accounts.Store(have)
	}
	return err
}

// followAccounts notices a dispatcher that was started with --accounts later than this host.
func (h *Host) followAccounts(ctx context.Context) {
	tick := time.NewTicker(accountsPause)
	defer tick.Stop()
	for !h.accounts.Load() { // there is no way back
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		bounded, cancel := context.WithTimeout(ctx, stream.AckTimeout)
		if err := h.learnAccounts(bounded); err != nil && ctx.Err() == nil {
			h.log.Debug("accounts_not_seen", "error", err)
		}
		cancel()
	}
}
