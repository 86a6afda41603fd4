package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// Page requests messages of one subject (wildcards allowed) in the order of their sequences.
type Page struct {
	Stream   string
	Subject  string
	From     uint64    // first sequence to look at; 0 is the beginning
	Since    time.Time // without From: the first message to look at was stored then or later
	Messages int       // at most this many
	Bytes    int       // the page ends once it holds this many
}

// pageTimeout bounds the wait for the next message of a page.
const pageTimeout = 5 * time.Second

// GetPage hands the messages of a page to each, one at a time, and returns where the next page begins: 0 when there is none.
// It is a direct get: on a replicated stream it may be a little behind the leader.
func GetPage(ctx context.Context, nc *nats.Conn, p Page, each func(Stored) error) (next uint64, err error) {
	ask := map[string]any{"next_by_subj": p.Subject, "batch": p.Messages, "max_bytes": p.Bytes}
	if p.From == 0 && !p.Since.IsZero() {
		ask["start_time"] = p.Since.UTC()
	} else {
		ask["seq"] = max(p.From, 1)
	}
	body, err := json.Marshal(ask)
	if err != nil {
		return 0, err
	}
	return direct(ctx, nc, p.Stream, body, each)
}

// getMany hands the last messages of subjects to each.
func getMany(ctx context.Context, nc *nats.Conn, stream string, subjects []string, each func(Stored)) error {
	body, err := json.Marshal(map[string]any{"multi_last": subjects})
	if err != nil {
		return err
	}
	_, err = direct(ctx, nc, stream, body, func(m Stored) error { each(m); return nil })
	return err
}

// direct requests several messages and hands them to each; next is behind the last one, 0 when there are no more.
func direct(ctx context.Context, nc *nats.Conn, stream string, body []byte, each func(Stored) error) (next uint64, err error) {
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return 0, fmt.Errorf("page of %s: %w", stream, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := nc.PublishRequest("$JS.API.DIRECT.GET."+stream, inbox, body); err != nil {
		return 0, fmt.Errorf("page of %s: %w", stream, err)
	}
	for {
		m, err := nextOf(ctx, sub)
		if err != nil {
			return 0, fmt.Errorf("page of %s: %w", stream, err)
		}
		if status := m.Header.Get("Status"); status != "" {
			return pageEnd(m, status, next)
		}
		s, err := directStored(m)
		if err != nil {
			return 0, fmt.Errorf("page of %s: %w", stream, err)
		}
		if err := each(s); err != nil {
			return 0, err
		}
		next = s.Sequence + 1
	}
}

func nextOf(ctx context.Context, sub *nats.Subscription) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	return sub.NextMsgWithContext(ctx)
}

// pageEnd reads the broker's last word on a page.
func pageEnd(m *nats.Msg, status string, next uint64) (uint64, error) {
	switch status {
	case "404":
		return 0, nil
	case "204":
		if m.Header.Get("Nats-Num-Pending") == "0" {
			return 0, nil
		}
		return next, nil
	case "503":
		return 0, nats.ErrNoResponders
	}
	return 0, fmt.Errorf("broker: status %s %s", status, m.Header.Get("Description"))
}

// directStored reads a message of a direct get: its own headers and, beside them, where it comes from.
func directStored(m *nats.Msg) (Stored, error) {
	seq, err := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
	if err != nil {
		return Stored{}, errors.New("broker's answer has no sequence")
	}
	at, err := time.Parse(time.RFC3339Nano, m.Header.Get("Nats-Time-Stamp"))
	if err != nil {
		return Stored{}, errors.New("broker's answer has no time")
	}
	return Stored{Subject: m.Header.Get("Nats-Subject"), Sequence: seq, Header: m.Header, Data: m.Data, Time: at}, nil
}
