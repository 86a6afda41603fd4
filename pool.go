package dspex

import (
	"context"
	"encoding/json"
	"iter"
	"maps"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/contract"
)

// ask sends a request that runs no job.
func (c *Client) ask(ctx context.Context, subject string, body any) (Reply, error) {
	m := nats.NewMsg(subject)
	m.Header.Set(contract.HeaderContentType, contract.JSON)
	if from := (request{}); c.traceparent != nil { // of a batch: its jobs belong to the span
		if c.propagate(ctx, &from); from.traceparent != "" {
			m.Header.Set(contract.HeaderTraceparent, from.traceparent)
		}
	}
	var err error
	if m.Data, err = json.Marshal(body); err != nil {
		return Reply{}, invalid(CodeBadRequest, "", "", "the request has no JSON form: %v", err)
	}
	ctx, cancel := bounded(ctx, travelTime)
	defer cancel()
	answer, err := c.request(ctx, m, JobRef{})
	if err != nil {
		return Reply{}, err
	}
	return readReply(answer, JobRef{})
}

// HealthStatus is the state of the pool.
type HealthStatus string

// A pool that cannot serve is an error of Health instead.
const (
	HealthHealthy  HealthStatus = "healthy"
	HealthDegraded HealthStatus = "degraded" // it serves, but something is missing
)

// Health is the answer to a health check.
type Health struct {
	Status  HealthStatus
	Reasons []string // why it is degraded, for people
	// Accounts reports that clients are in accounts of their own. Where they are not, one that may publish can write to any subject
	// of the broker.
	Accounts bool
	Stats    Stats
	Raw      json.RawMessage // the raw result
}

// Health measures the pool now. A pool that cannot serve is an error, whose category and message report why.
func (c *Client) Health(ctx context.Context) (Health, error) {
	reply, err := c.ask(ctx, contract.RPCHealth, struct{}{})
	if err != nil {
		return Health{}, err
	}
	var w struct {
		Status   HealthStatus    `json:"status"`
		Reasons  []string        `json:"reasons"`
		Accounts bool            `json:"accounts"`
		Stats    json.RawMessage `json:"stats"`
	}
	if err := reply.Decode(&w); err != nil || w.Status == "" {
		return Health{}, badReply("the answer about the health is not the expected JSON")
	}
	stats, err := readStats(w.Stats, reply.Engine)
	return Health{Status: w.Status, Reasons: w.Reasons, Accounts: w.Accounts, Stats: stats, Raw: reply.Result}, err
}

// Stats are the pool's numbers, over all hosts.
type Stats struct {
	PoolSize            int
	ActiveWorkers       int // of PoolSize, those that live
	AvailableWorkers    int // of ActiveWorkers, those with a free slot
	ActiveSessions      int
	TotalRequests       int64
	TotalErrors         int64
	AverageResponseTime time.Duration
	Uptime              time.Duration

	OverflowWorkers int   // that live above PoolSize, while calls wait
	AffinityHits    int64 // jobs that ran where their session was warm
	AffinityMisses  int64 // whose session was warm nowhere
	AffinityMoves   int64 // whose session was warm in a worker without a free slot

	Tenants map[string]TenantStats // of each tenant that has accounts of its own; for operators only

	Engine  string          // what runs the programs, such as "dspy 3.4.1"; "" while no worker has started
	Sandbox string          // what workers are kept from: "none", "user" or "strict"; several, separated by commas, if hosts differ
	Raw     json.RawMessage // the raw result
}

// TenantStats are the numbers of one tenant.
type TenantStats struct {
	ActiveSessions      int
	TotalRequests       int64
	TotalErrors         int64
	AverageResponseTime time.Duration
}

// Stats returns the pool's numbers. Where tenants have accounts of their own, sessions, requests, errors and the response time are
// those of the caller's tenant.
func (c *Client) Stats(ctx context.Context) (Stats, error) {
	reply, err := c.ask(ctx, contract.RPCStats, struct{}{})
	if err != nil {
		return Stats{}, err
	}
	return readStats(reply.Result, reply.Engine)
}

func readStats(raw json.RawMessage, engine string) (Stats, error) {
	var w struct {
		PoolSize            int     `json:"pool_size"`
		ActiveWorkers       int     `json:"active_workers"`
		AvailableWorkers    int     `json:"available_workers"`
		ActiveSessions      int     `json:"active_sessions"`
		TotalRequests       int64   `json:"total_requests"`
		TotalErrors         int64   `json:"total_errors"`
		AverageResponseTime float64 `json:"average_response_time"` // ms
		UptimeSeconds       float64 `json:"uptime_seconds"`
		Extra               struct {
			OverflowWorkers int    `json:"overflow_workers"`
			AffinityHits    int64  `json:"affinity_hits"`
			AffinityMisses  int64  `json:"affinity_misses"`
			AffinityMoves   int64  `json:"affinity_moves"`
			Sandbox         string `json:"sandbox"`
			Tenants         map[string]struct {
				ActiveSessions      int     `json:"active_sessions"`
				TotalRequests       int64   `json:"total_requests"`
				TotalErrors         int64   `json:"total_errors"`
				AverageResponseTime float64 `json:"average_response_time"` // ms
			} `json:"tenants"`
		} `json:"extra"`
	}
	if err := json.Unmarshal(raw, &w); err != nil {
		return Stats{}, badReply("the answer about the pool is not the expected JSON: %v", err)
	}
	var tenants map[string]TenantStats
	for name, n := range w.Extra.Tenants {
		if tenants == nil {
			tenants = map[string]TenantStats{}
		}
		tenants[name] = TenantStats{n.ActiveSessions, n.TotalRequests, n.TotalErrors, fromMillis(n.AverageResponseTime)}
	}
	return Stats{
		PoolSize: w.PoolSize, ActiveWorkers: w.ActiveWorkers, AvailableWorkers: w.AvailableWorkers, ActiveSessions: w.ActiveSessions,
		TotalRequests: w.TotalRequests, TotalErrors: w.TotalErrors, AverageResponseTime: fromMillis(w.AverageResponseTime),
		Uptime: fromMillis(w.UptimeSeconds * 1000), OverflowWorkers: w.Extra.OverflowWorkers, AffinityHits: w.Extra.AffinityHits,
		AffinityMisses: w.Extra.AffinityMisses, AffinityMoves: w.Extra.AffinityMoves, Engine: engine, Sandbox: w.Extra.Sandbox, Tenants: tenants, Raw: raw,
	}, nil
}

// pages is what the service gives page by page.
type pages struct {
	request func(ctx context.Context, subject string, ask any) (Reply, error)
	subject string
	ask     map[string]any
	size    int // of a page, 0: the service's own
	limit   int // of all of it, 0: no limit
}

// each reads pages until one has no cursor, or the limit is reached, or read has enough. read reports how many of what is limited the page had.
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

// Page is a part of a list, for those who show lists piece by piece. Next is the cursor of the page behind it, "" for the last one.
type Page[T any] struct {
	Items []T
	Next  string
}

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
