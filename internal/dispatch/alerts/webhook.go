package alerts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"time"
)

// Bounds of a webhook.
const (
	webhookQueue   = 16              // alerts that wait; there is one in 300 s
	webhookTimeout = 5 * time.Second // of one try
	webhookTries   = 3
	webhookPause   = 2 * time.Second // before the second try, twice as long before the next
	webhookAnswer  = 4 << 10         // bytes that are read of an answer
)

// webhook posts alerts to an address. What is logged never holds the address: it may hold a secret.
type webhook struct {
	address string // "" posts nothing
	log     *slog.Logger
	client  *http.Client
	waiting chan []byte
	pause   time.Duration // before the second try
}

func newWebhook(address string, log *slog.Logger) *webhook {
	return &webhook{address: address, log: log, waiting: make(chan []byte, webhookQueue), pause: webhookPause,
		client: &http.Client{Timeout: webhookTimeout,
			// An alert goes to the operator's address, nowhere else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// post never waits.
func (w *webhook) post(body []byte) {
	select {
	case w.waiting <- body:
	default:
		w.log.Error("alert_not_sent", "destination", Webhook, "error", "too many alerts wait")
	}
}

// Run posts until ctx ends.
func (w *webhook) run(ctx context.Context) {
	defer w.client.CloseIdleConnections()
	for {
		select {
		case <-ctx.Done():
			return
		case body := <-w.waiting:
			if err := w.insist(ctx, body); err != nil {
				w.log.Error("alert_not_sent", "destination", Webhook, "error", err)
			}
		}
	}
}

func (w *webhook) insist(ctx context.Context, body []byte) error {
	for try := 1; ; try++ {
		err := w.once(ctx, body)
		if err == nil || try == webhookTries {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(w.pause << (try - 1)):
		}
	}
}

func (w *webhook) once(ctx context.Context, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.address, bytes.NewReader(body))
	if err != nil {
		return errors.New("the address cannot be used")
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := w.client.Do(request)
	if err != nil {
		if failed, ok := errors.AsType[*url.Error](err); ok {
			err = failed.Err // without the address
		}
		return err
	}
	defer answer.Body.Close()
	_, _ = io.CopyN(io.Discard, answer.Body, webhookAnswer) // so that the connection can be used again
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return fmt.Errorf("the answer has status %d", answer.StatusCode)
	}
	return nil
}
