package dspex

import (
	"context"
	"encoding/json"
	"maps"

	"github.com/dspex/dspex/internal/contract"
)

// Page is a part of a list, for those who show lists piece by piece. Next is the cursor of the page behind it, "" for the last one.
type Page[T any] struct {
	Items []T
	Next  string
}

// SessionsPage returns one page of Sessions: at most f.Limit of them, 1 to 500, from a cursor on ("" for the first page). A page may have
// fewer, even none, and a next one.
func (a *Admin) SessionsPage(ctx context.Context, f SessionFilter, cursor string) (Page[SessionInfo], error) {
	return onePage(ctx, f.pages(a), cursor, mostPage, "sessions", func(raw json.RawMessage) (SessionInfo, error) {
		s, err := readSession(raw)
		return s.SessionInfo, err
	})
}

// DeadLettersPage returns one page of DeadLetters: at most f.Limit of them, 1 to 100, from a cursor on ("" for the first page).
func (a *Admin) DeadLettersPage(ctx context.Context, f DeadLetterFilter, cursor string) (Page[DeadLetter], error) {
	return onePage(ctx, a.deadPages(contract.RPCDeadList, f.ask(), f.Limit), cursor, mostDeadPage, "letters", func(raw json.RawMessage) (DeadLetter, error) {
		l, err := readDeadLetter(raw)
		return l.DeadLetter, err
	})
}

// BatchesPage returns one page of Batches: at most limit of them, 1 to 200, from a cursor on ("" for the first page).
func (c *Client) BatchesPage(ctx context.Context, limit int, cursor string) (Page[Batch], error) {
	return onePage(ctx, pages{request: c.ask, subject: contract.RPCBatchesList, ask: map[string]any{}, limit: limit}, cursor, mostBatchPage, "batches", readBatch)
}

// mostBatchPage is the largest page of batches.
const mostBatchPage = 200

// onePage reads what one request returns.
func onePage[T any](ctx context.Context, p pages, cursor string, most int, field string, one func(json.RawMessage) (T, error)) (Page[T], error) {
	if p.limit < 1 || p.limit > most {
		return Page[T]{}, invalid(contract.CodeBadRequest, "limit", "1 to the largest page", "a page must have 1 to %d entries, got %d", most, p.limit)
	}
	ask := maps.Clone(p.ask)
	ask["limit"] = p.limit
	if cursor != "" {
		ask["cursor"] = cursor
	}
	reply, err := p.request(ctx, p.subject, ask)
	if err != nil {
		return Page[T]{}, err
	}
	var fields map[string]json.RawMessage
	if err := reply.Decode(&fields); err != nil {
		return Page[T]{}, badReply("the answer of %s is not the expected JSON: %v", p.subject, err)
	}
	var items []json.RawMessage
	if raw := fields[field]; raw != nil {
		if err := json.Unmarshal(raw, &items); err != nil {
			return Page[T]{}, badReply("%s of %s is not the expected JSON: %v", field, p.subject, err)
		}
	}
	list := Page[T]{}
	if raw := fields["cursor"]; raw != nil {
		_ = json.Unmarshal(raw, &list.Next) // "": there is no other page
	}
	for _, raw := range items {
		item, err := one(raw)
		if err != nil {
			return Page[T]{}, err
		}
		list.Items = append(list.Items, item)
	}
	return list, nil
}
