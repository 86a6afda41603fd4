package audit

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/dspex/dspex/internal/dispatch/endpoint"

	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
	"github.com/dspex/dspex/internal/wire"
)

// Bounds of one answer about the audit trail.
const (
	pageDefault = 100
	pageMost    = 500
	scanMost    = 20_000 // records looked at
	pageBytes   = 1 << 20
)

// query chooses records.
type query struct {
	action, tenant, role string
	newer, limit         int64
	cursor               string
	from                 uint64
}

func (a *query) read(r endpoint.Request) *jobs.Error {
	a.limit = pageDefault
	return endpoint.ReadBody(r, `{"action": "...", "tenant": "...", "newer_than_ms": 3600000, "limit": 100, "cursor": "..."}`, map[string]*endpoint.Entry{
		"action":        endpoint.Text(&a.action, "an action, such as hosts.drain", func(s string) bool { return s != "" && len(s) <= longestArg }),
		"tenant":        endpoint.Text(&a.tenant, endpoint.SessionShape, jobs.ValidTenant),
		"role":          endpoint.Text(&a.role, "operator, tenant or client", func(s string) bool { return s == "operator" || s == "tenant" || s == "client" }),
		"newer_than_ms": endpoint.Int(&a.newer, "milliseconds", 1, endpoint.AgeMost.Milliseconds()),
		"limit":         endpoint.Int(&a.limit, "records", 1, pageMost),
		"cursor": endpoint.Text(&a.cursor, "the cursor of the page before", func(s string) (ok bool) {
			var err error
			a.from, err = strconv.ParseUint(s, 10, 64)
			return err == nil && a.from > 0
		}),
	})
}

func (a *query) wants(r *record) bool {
	return (a.action == "" || r.Action == a.action) && (a.tenant == "" || r.Tenant == a.tenant) && (a.role == "" || r.Role == a.role)
}

// List answers a page of the audit trail, the oldest record first. Its cursor goes on behind the page also when there is no more
// as yet.
func (g *Trail) List(ctx context.Context, r endpoint.Request) {
	var a query
	if bad := a.read(r); bad != nil {
		endpoint.Refuse(r, bad)
		return
	}
	page := stream.Page{Stream: stream.Audit, Subject: contract.SubjectAudit, From: a.from}
	if a.newer > 0 && a.from == 0 {
		page.Since = g.broker.Clock.Now().Add(-time.Duration(a.newer) * time.Millisecond)
	}
	found, next, more, err := g.readAudit(ctx, &a, page)
	if err != nil {
		endpoint.Refuse(r, endpoint.Unreadable(err))
		return
	}
	result := map[string]any{"records": found, "more": more}
	if next > 0 {
		result["cursor"] = strconv.FormatUint(next, 10)
	}
	endpoint.RespondResult(r, result)
}

// readAudit reads records until it has enough: next is where the next page begins, 0 if there is none at all.
func (g *Trail) readAudit(ctx context.Context, a *query, page stream.Page) (found []any, next uint64, more bool, err error) {
	found, next = []any{}, a.from
	bytes, full := 0, false
	page.Bytes = pageBytes
	for looked := 0; looked < scanMost && !full; {
		page.Messages = int(a.limit) - len(found)
		end, err := stream.GetPage(ctx, g.broker.NC, page, func(m stream.Stored) error {
			looked++
			if full {
				return nil
			}
			next = m.Sequence + 1
			shown, wanted := a.shows(m)
			if !wanted {
				return nil
			}
			found = append(found, shown)
			bytes += len(m.Data)
			full = len(found) >= int(a.limit) || bytes > g.broker.MaxPayload/4
			return nil
		})
		if err != nil {
			return nil, 0, false, err
		}
		if end == 0 && !full {
			return found, next, false, nil
		}
		page.From, page.Since = next, time.Time{}
	}
	return found, next, true, nil
}

// shows reads a record, and reports whether it matches. One that cannot be read is of a later release.
func (a *query) shows(m stream.Stored) (map[string]any, bool) {
	var one record
	if json.Unmarshal(m.Data, &one) != nil || one.Schema != schema || !a.wants(&one) {
		return nil, false
	}
	shown := map[string]any{}
	raw, err := wire.FromJSON(m.Data, wire.Request)
	if err != nil || wire.Decode(raw, &shown) != nil {
		return nil, false
	}
	shown["sequence"] = m.Sequence
	return shown, true
}
