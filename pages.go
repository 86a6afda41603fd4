package dspex

import (
	"context"
	"encoding/json"
	"iter"
	"maps"
)

// pages is what the service gives page by page.
type pages struct {
	request func(ctx context.Context, subject string, ask any) (Reply, error)
	subject string
	ask     map[string]any
	size    int // of a page, 0: the service's own
	limit   int // of all of it, 0: no limit
}

// each reads pages until one has no cursor, or the limit is reached, or read has enough. read tells how many of what is limited the page had.
func (p pages) each(ctx context.Context, read func(page map[string]json.RawMessage) (count int, more bool)) error {
	ask := maps.Clone(p.ask) // a list may be read twice
	for left := p.limit; ; {
		if p.size > 0 {
			ask["limit"] = p.size
			if left > 0 {
				ask["limit"] = min(left, p.size)
			}
		}
		reply, err := p.request(ctx, p.subject, ask)
		if err != nil {
			return err
		}
		var page map[string]json.RawMessage
		if err := reply.Decode(&page); err != nil {
			return badReply("the answer of %s is not the expected JSON: %v", p.subject, err)
		}
		count, more := read(page)
		cursor := ""
		if raw := page["cursor"]; raw != nil {
			_ = json.Unmarshal(raw, &cursor) // "": there is no other page
		}
		if left -= count; !more || cursor == "" || p.limit > 0 && left <= 0 {
			return nil
		}
		ask["cursor"] = cursor
	}
}

// listed yields what stands in the field of each page. A loop that is left reads no further page.
func listed[T any](ctx context.Context, p pages, field string, one func(raw json.RawMessage) (T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		over := false
		err := p.each(ctx, func(page map[string]json.RawMessage) (int, bool) {
			var list []json.RawMessage
			if raw := page[field]; raw != nil {
				if err := json.Unmarshal(raw, &list); err != nil {
					over = true
					var none T
					yield(none, badReply("%s of %s is not the expected JSON: %v", field, p.subject, err))
					return 0, false
				}
			}
			for _, raw := range list {
				v, err := one(raw)
				if !yield(v, err) || err != nil {
					over = true
					return 0, false
				}
			}
			return len(list), true
		})
		if err != nil && !over {
			var none T
			yield(none, err)
		}
	}
}
