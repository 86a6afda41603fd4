package link_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/link"
)

func TestWhatPassesIsWaitedForAndNothingElse(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		passes bool
	}{
		"no leader":          {fmt.Errorf("read x: %w", &jetstream.APIError{Code: 503, ErrorCode: 10008}), true},
		"too few brokers":    {&jetstream.APIError{Code: 400, ErrorCode: 10005}, true},
		"nobody answers":     {fmt.Errorf("stream X: %w", context.DeadlineExceeded), true},
		"nobody listens":     {nats.ErrNoResponders, true},
		"a lost connection":  {fmt.Errorf("look: %w", nats.ErrConnectionClosed), true},
		"no room":            {&jetstream.APIError{Code: 500, ErrorCode: 10047}, false},
		"another deployment": {errors.New("the deployment has 8 partitions"), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tries, began := 0, time.Now()
				err := link.Retry(t.Context(), slog.New(slog.DiscardHandler), link.Passes, func(context.Context) error {
					if tries++; tries == 4 {
						return nil
					}
					return c.err
				})
				if c.passes != (err == nil) || c.passes != (tries == 4) {
					t.Errorf("%v after %d tries", err, tries)
				}
				err = link.Retry(t.Context(), slog.New(slog.DiscardHandler), link.Passes, func(context.Context) error { return c.err })
				if err == nil || time.Since(began) > 3*time.Minute {
					t.Errorf("%v after %v", err, time.Since(began))
				}
			})
		})
	}
}
