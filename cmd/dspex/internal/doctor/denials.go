package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// denials ends the check at hand when the broker denies something, which it reports outside of replies.
type denials struct {
	mu  sync.Mutex
	end context.CancelCauseFunc // nil: no check is at hand
}

func (n *denials) come(_ *nats.Conn, _ *nats.Subscription, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.end != nil && errors.Is(err, nats.ErrPermissionViolation) {
		n.end(denial(err))
	}
}

func (n *denials) set(end context.CancelCauseFunc) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.end = end
}

// bounded is the context of one check. One runs at a time.
func (d *doctor) bounded(ctx context.Context, limit time.Duration) (context.Context, func()) {
	ctx, stop := context.WithTimeout(ctx, limit)
	ctx, end := context.WithCancelCause(ctx)
	d.denials.set(end)
	return ctx, func() { d.denials.set(nil); end(nil); stop() }
}

var errDenied = errors.New("permission denied")

// denial quotes what the broker denies, such as `Publish to "dspex.rpc.hosts.list"`.
func denial(err error) error {
	text := err.Error()
	if _, what, ok := strings.Cut(text, "Permissions Violation for "); ok {
		text = what
	}
	return fmt.Errorf("%w: %s", errDenied, text)
}

// reason is why a check failed: the denial that ended its context, if there was one.
func reason(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, errDenied) {
		return cause
	}
	return err
}

// answered reports whether this user may subscribe to its own replies: without them nothing else can be checked.
func (d *doctor) answered(nc *nats.Conn) bool {
	replies, err := nc.SubscribeSync(nc.NewInbox())
	if err == nil {
		defer func() { _ = replies.Unsubscribe() }()
		if err = nc.FlushTimeout(lookFor); err == nil {
			err = nc.LastError() // a denial comes before the flush's own answer
		}
	}
	if errors.Is(err, nats.ErrPermissionViolation) {
		d.add("permissions", Wrong, "set $NATS_INBOX_PREFIX, or inbox_prefix of the NATS context, to what the user may subscribe to, such as _INBOX.operator", "this user gets no answers: %v", denial(err))
		return false
	}
	return true
}
