package sessions

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/dispatch/endpoint"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// Bounds of one list request: what it answers, and what it looks at for that.
const (
	listDefault = 100
	listMost    = 1000
	scanMost    = 10_000                // records
	scanTime    = 2 * time.Second       // then the page ends as it is
	pageRecords = 500                   // requested at once
	pageBytes   = 4 << 20               // of these, in memory at a time
	prefixShape = "text, 0 to 64 bytes" // a prefix of session ids
)

type listQuery struct {
	prefix, host, cursor string
	idle, limit          int64
	from                 uint64
}

func parseList(r endpoint.Request) (listQuery, *jobs.Error) {
	a := listQuery{limit: listDefault, from: 1}
	bad := endpoint.ReadBody(r, `{"prefix": "...", "host": "...", "idle_ms": 0, "limit": 100, "cursor": "..."}`, map[string]*endpoint.Entry{
		"prefix":  endpoint.Text(&a.prefix, prefixShape, func(s string) bool { return len(s) <= jobs.MaxSessionID }),
		"host":    endpoint.Text(&a.host, "a host's name", jobs.ValidSession),
		"idle_ms": endpoint.Int(&a.idle, "milliseconds", 0, endpoint.AgeMost.Milliseconds()),
		"limit":   endpoint.Int(&a.limit, "sessions", 1, listMost),
		"cursor": endpoint.Text(&a.cursor, "the cursor of the page before", func(s string) (ok bool) {
			var err error
			a.from, err = strconv.ParseUint(s, 10, 64)
			return err == nil && a.from > 0
		}),
	})
	return a, bad
}

// List answers one page of the sessions that have a record, those not used for longest first. The cursor is the
// record's revision: a session that is used meanwhile moves to the end, so that none is missed, and one may come twice.
func (s *Sessions) List(ctx context.Context, r endpoint.Request) {
	a, bad := parseList(r)
	if bad != nil {
		endpoint.Refuse(r, bad)
		return
	}
	owners, err := s.plan.Owners(ctx)
	if err != nil {
		endpoint.Refuse(r, endpoint.Unreadable(err))
		return
	}
	l := &listing{query: a, keys: endpoint.SessionOf(r, "").RecordKey(), owners: owners, partition: s.plan.Partition, idle: s.hosts.SessionIdle(), age: s.broker.Clock.Age, next: a.from, found: []map[string]any{}}
	for scanned, end := 0, time.Now().Add(scanTime); l.next > 0 && len(l.found) < int(a.limit) && scanned < scanMost && time.Now().Before(end); {
		page := stream.Page{From: l.next, Messages: pageRecords, Bytes: pageBytes}
		next, err := s.broker.Records.Page(ctx, endpoint.SessionOf(r, "*").RecordKey(), page, func(key string, e stream.Entry) error {
			scanned++
			return l.look(key, e)
		})
		if err != nil && !errors.Is(err, errPageFull) {
			endpoint.Refuse(r, endpoint.Unreadable(err))
			return
		}
		if err == nil {
			l.next = next
		}
	}
	result := map[string]any{"sessions": l.found}
	if l.next > 0 {
		result["cursor"] = strconv.FormatUint(l.next, 10)
	}
	endpoint.RespondResult(r, result)
}

var errPageFull = errors.New("the page is full")

// listing collects the sessions that were requested.
type listing struct {
	query     listQuery
	keys      string // begins those of the tenant
	owners    map[int]string
	partition func(session string) int
	idle      time.Duration
	age       func(time.Time) time.Duration // of the broker's stamps
	next      uint64
	found     []map[string]any
}

func (l *listing) look(key string, e stream.Entry) error {
	l.next = e.Revision + 1
	id := strings.TrimPrefix(key, l.keys)
	partition := l.partition(id)
	if !e.Exists || !strings.HasPrefix(id, l.query.prefix) || l.query.host != "" && l.owners[partition] != l.query.host {
		return nil
	}
	rec, err := jobs.ParseRecord(e.Value)
	if err != nil {
		l.found = append(l.found, map[string]any{"session_id": id, "host": l.owners[partition], "partition": partition, "unreadable": err.Error()})
	} else if !isEmpty(rec) && l.age(rec.Updated).Milliseconds() >= l.query.idle {
		l.found = append(l.found, brief(id, rec, l.owners[partition], partition, l.idle, l.age(rec.Updated)))
	}
	if len(l.found) == int(l.query.limit) {
		return errPageFull
	}
	return nil
}
