// Package deadletters serves the endpoints about dead letters: what failed permanently is listed, shown, replayed and purged.
package deadletters

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/dispatch/endpoint"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
	"github.com/dspex/dspex/internal/wire"
)

// Service serves the requests.
type Service struct {
	broker *stream.Access
	log    *slog.Logger
}

// New serves the dead letters of a broker.
func New(broker *stream.Access, log *slog.Logger) *Service { return &Service{broker, log} }

// Bounds of one request about dead letters.
const (
	deadDefault = 100
	deadMost    = 500
	deadScan    = 10_000 // dead letters read
)

// query chooses dead letters: one, or all that match.
type query struct {
	sequence       int64
	tenant         string
	session        string
	anonymous, all bool
	category       jobs.Category
	code           string
	older, newer   int64 // ms since the job was dead-lettered
	limit          int64
	replayed       *bool
	cursor         string
	from, until    uint64
}

var categoryShape = func() string {
	names := []string{}
	for _, c := range jobs.Categories() {
		names = append(names, string(c))
	}
	return strings.Join(names, ", ")
}()

func (a *query) entries(r endpoint.Request) map[string]*endpoint.Entry {
	a.limit, a.tenant = deadDefault, endpoint.TenantOf(r)
	category := ""
	return map[string]*endpoint.Entry{
		"session":   endpoint.Text(&a.session, endpoint.SessionShape, jobs.ValidSession),
		"anonymous": endpoint.Bool(&a.anonymous),
		"error_category": endpoint.Text(&category, categoryShape, func(s string) (ok bool) {
			a.category, ok = jobs.ParseCategory(s)
			return ok
		}),
		"code":          endpoint.Text(&a.code, "an error code", func(s string) bool { return s != "" && len(s) <= 128 }),
		"older_than_ms": endpoint.Int(&a.older, "milliseconds", 1, endpoint.AgeMost.Milliseconds()),
		"newer_than_ms": endpoint.Int(&a.newer, "milliseconds", 1, endpoint.AgeMost.Milliseconds()),
		"replayed":      endpoint.OptionalBool(&a.replayed),
		"limit":         endpoint.Int(&a.limit, "letters", 1, deadMost),
		"cursor": endpoint.Text(&a.cursor, "the cursor of the page before", func(s string) bool {
			_, err := fmt.Sscanf(s, "%d-%d", &a.from, &a.until)
			return err == nil && a.from > 0 && a.until >= a.from
		}),
	}
}

// choose reads which dead letters a request is about. Without a filter it must report that it means all.
func (a *query) choose(r endpoint.Request) *jobs.Error {
	entries := a.entries(r)
	entries["sequence"] = endpoint.Int(&a.sequence, "a dead letter's sequence", 1, 1<<53)
	entries["all"] = endpoint.Bool(&a.all)
	if bad := endpoint.ReadBody(r, `{"sequence": 1}, a filter, or {"all": true}`, entries); bad != nil {
		return bad
	}
	if bad := a.contradiction(); bad != nil {
		return bad
	}
	filtered := a.session != "" || a.anonymous || a.category != "" || a.code != "" || a.older > 0 || a.newer > 0 || a.replayed != nil
	given := 0
	for _, is := range []bool{a.sequence > 0, filtered, a.all} {
		if is {
			given++
		}
	}
	if given != 1 {
		return jobs.Refused(jobs.CodeBadRequest, "", `one of: "sequence", a filter, "all": true`, "the request does not select dead letters")
	}
	return nil
}

func (a *query) contradiction() *jobs.Error {
	if a.session != "" && a.anonymous {
		return jobs.Refused(jobs.CodeBadRequest, "anonymous", "either a session or anonymous", "an anonymous job has no session")
	}
	return nil
}

func (a *query) subjects() []string {
	of := jobs.SessionRef{Tenant: a.tenant, ID: a.session}
	switch {
	case a.session != "", a.anonymous:
		return []string{of.DeadSubject()}
	}
	all := jobs.SessionRef{Tenant: a.tenant, ID: "*"}
	return []string{all.DeadSubject(), of.DeadSubject(), of.InvalidSubject()}
}

// scan passes the dead letters that match to visit, at most a.limit. It returns the cursor of the next page, "" when there is none.
// The first page fixes where the last one ends: what dies meanwhile is not met.
func (l *Service) scan(ctx context.Context, a *query, visit func(*deadLetter) error) (cursor string, err error) {
	if a.until == 0 {
		if a.until, err = l.broker.LastSequence(ctx, stream.Dead); err != nil {
			return "", err
		}
	}
	now, left := l.broker.Clock.Now(), a.limit
	p := stream.HeadersPage{Stream: stream.Dead, Subjects: a.subjects(), From: a.from, Until: a.until, Most: deadScan}
	next, err := stream.GetHeaders(ctx, l.broker.JS, p, func(m stream.Stored) (bool, error) {
		b, ok, err := l.match(ctx, a, m, now)
		if err != nil || !ok {
			return false, err
		}
		left--
		return left == 0, visit(b)
	})
	if next > 0 {
		cursor = fmt.Sprintf("%d-%d", next, a.until)
	}
	return cursor, err
}

// deadLetter is one at its place.
type deadLetter struct {
	*jobs.DeadLetter
	sequence uint64
	at       time.Time
	bytes    int
	replay   string // job that replays it, "" if none does
	replayed time.Time
}

// match reads a dead letter and compares it with the filter.
func (l *Service) match(ctx context.Context, a *query, m stream.Stored, now time.Time) (*deadLetter, bool, error) {
	letter, err := jobs.ParseDeadLetter(m.Subject, m.Header)
	if err != nil {
		l.log.Warn("dead_letter_unreadable", "sequence", m.Sequence, "error", err)
		return nil, false, nil
	}
	b := &deadLetter{DeadLetter: letter, sequence: m.Sequence, at: m.Time, bytes: len(m.Data)}
	if text := m.Header.Get(stream.SizeHeader); text != "" {
		b.bytes, _ = strconv.Atoi(text) // the broker's own number
	}
	category, code, _ := letter.Failed()
	age := now.Sub(m.Time).Milliseconds()
	switch {
	case a.tenant != letter.Session.Tenant: // requested by its sequence
		return nil, false, nil
	case a.category != "" && category != a.category, a.code != "" && code != a.code,
		a.older > 0 && age < a.older, a.newer > 0 && age > a.newer:
		return nil, false, nil
	}
	if err := l.note(ctx, b); err != nil {
		return nil, false, err
	}
	return b, a.replayed == nil || *a.replayed == (b.replay != ""), nil
}

// note looks whether a dead letter was replayed.
func (l *Service) note(ctx context.Context, b *deadLetter) error {
	m, err := l.broker.Reads.Last(ctx, l.broker.NC, stream.Dead, replayedSubject(b.sequence))
	if errors.Is(err, stream.ErrNotFound) {
		return nil
	}
	if err == nil {
		b.replay, b.replayed = m.Header.Get(jobs.HeaderJob), m.Time
	}
	return err
}

func replayedSubject(sequence uint64) string {
	return jobs.DeadReplayed + strconv.FormatUint(sequence, 10)
}

// brief is a dead letter as it is listed.
func (b *deadLetter) brief() map[string]any {
	category, code, message := b.Failed()
	out := map[string]any{
		"sequence": b.sequence, "job": b.Job, "session": endpoint.OrNil(b.Session.ID), "mode": string(b.Mode), "command": endpoint.OrNil(b.Command),
		"attempts": b.Attempts, "error_category": string(category), "code": code, "message": message,
		"buried_at": endpoint.TimeText(b.at), "accepted_at": endpoint.TimeText(b.Stored), "bytes": b.bytes, "replayed": nil,
	}
	if b.Lane != "" {
		out["lane"] = b.Lane
	}
	if b.replay != "" {
		out["replayed"] = map[string]any{"job": b.replay, "at": endpoint.TimeText(b.replayed)}
	}
	return out
}

// List answers one page of the dead letters, the oldest first.
func (l *Service) List(ctx context.Context, r endpoint.Request) {
	a := &query{}
	bad := endpoint.ReadBody(r, `{"session": "...", "error_category": "...", "limit": 100, "cursor": "..."}`, a.entries(r))
	if bad == nil {
		bad = a.contradiction()
	}
	if bad != nil {
		endpoint.Refuse(r, bad)
		return
	}
	found := []map[string]any{}
	cursor, err := l.scan(ctx, a, func(b *deadLetter) error { found = append(found, b.brief()); return nil })
	if err != nil {
		endpoint.Refuse(r, endpoint.Unreadable(err))
		return
	}
	endpoint.RespondResult(r, endpoint.Paged(map[string]any{"letters": found}, cursor))
}

// Show answers everything about one dead letter: its request, why it failed, and every attempt's error.
func (l *Service) Show(ctx context.Context, r endpoint.Request) {
	var sequence int64
	if bad := endpoint.ReadBody(r, `{"sequence": 1}`, map[string]*endpoint.Entry{"sequence": endpoint.Int(&sequence, "a dead letter's sequence", 1, 1<<53).Needed()}); bad != nil {
		endpoint.Refuse(r, bad)
		return
	}
	b, body, bad := l.letter(ctx, endpoint.TenantOf(r), uint64(sequence))
	if bad != nil {
		endpoint.Refuse(r, bad)
		return
	}
	out := b.brief()
	out["content_type"], out["accepted_sequence"], out["failures"] = b.Type, b.Sequence, history(b.Failures)
	if b.Deadline > 0 {
		out["deadline_ms"] = b.Deadline.Milliseconds()
	}
	if reason, err := decoded(jobs.JSON, b.Reason); err == nil {
		out["error"] = reason
	}
	if request, err := decoded(b.Type, body); err == nil {
		out["request"] = request
	} else {
		out["request_bytes"] = body // it cannot be read: that may be why it failed
	}
	endpoint.RespondResult(r, out)
}

func history(failures []jobs.Failure) []any {
	list := []any{}
	for _, f := range failures {
		m := map[string]any{"attempt": f.Attempt, "error_category": string(f.Category), "code": f.Code, "message": f.Message,
			"worker": endpoint.OrNil(f.Worker), "python_type": endpoint.OrNil(f.PythonType), "at": nil}
		if !f.At.IsZero() {
			m["at"] = endpoint.TimeText(f.At)
		}
		list = append(list, m)
	}
	return list
}

func decoded(kind string, body []byte) (v any, err error) {
	if kind == jobs.JSON {
		body, err = wire.FromJSON(body, wire.Request)
	} else {
		body, err = wire.Canonical(body, wire.Request)
	}
	if err == nil {
		err = wire.Decode(body, &v)
	}
	return v, err
}

// letter reads one dead letter.
func (l *Service) letter(ctx context.Context, tenant string, sequence uint64) (*deadLetter, []byte, *jobs.Error) {
	m, err := l.broker.Reads.Sequence(ctx, l.broker.NC, stream.Dead, sequence)
	if err != nil && !errors.Is(err, stream.ErrNotFound) {
		return nil, nil, endpoint.Unreadable(err)
	}
	if err == nil {
		b, ok, err := l.match(ctx, &query{tenant: tenant}, m, l.broker.Clock.Now())
		if err != nil {
			return nil, nil, endpoint.Unreadable(err)
		}
		if ok {
			return b, m.Data, nil
		}
	}
	return nil, nil, jobs.Errorf(jobs.Session, jobs.CodeDeadLetterUnknown, "there is no dead letter with that sequence").
		WithHint("dead letters are kept for 30 days, unless they are purged; `dspex dlq list` shows the existing ones")
}
