package sessions

import (
	"context"
	"math"

	"github.com/dspex/dspex/internal/dispatch/endpoint"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

// exportSchema is the version of the documents that exportSession makes.
const exportSchema = 1

// Export answers a document from which import makes the session again, here or in another deployment.
func (s *Sessions) Export(ctx context.Context, r endpoint.Request) {
	var id string
	bad := endpoint.ReadBody(r, `{"session": "..."}`, map[string]*endpoint.Entry{"session": endpoint.SessionID(&id)})
	var rec *jobs.Record
	if bad == nil {
		rec, bad = s.readSession(ctx, endpoint.SessionOf(r, id))
	}
	if bad == nil && rec == nil {
		bad = unknownSession()
	}
	if bad == nil {
		bad = exportable(r, rec.State)
	}
	if bad != nil {
		endpoint.Refuse(r, bad)
		return
	}
	document := map[string]any{
		"schema": exportSchema, "session_id": id, "exported_at": endpoint.TimeText(s.broker.Clock.Now()), "generation": rec.Generation,
		"created_at": endpoint.TimeText(rec.Created), "last_activity": endpoint.TimeText(rec.Updated), "operations": rec.Jobs, "state": nil,
	}
	if rec.State != nil {
		document["state"] = wire.Raw(rec.State)
	}
	endpoint.RespondResult(r, document)
}

// exportable refuses what the form that was requested cannot keep.
func exportable(r endpoint.Request, state []byte) *jobs.Error {
	if state == nil {
		return nil
	}
	if err := wire.Check(state, wire.Pass); err != nil {
		return jobs.Errorf(jobs.Session, jobs.CodeRecordUnreadable, "the session's state cannot be read: %v", err)
	}
	if kind, bad := jobs.ContentType(r.Headers().Get(jobs.HeaderContentType)); bad != nil || kind != jobs.JSON {
		return bad
	}
	if lost := lostInJSON(state); lost != "" {
		return jobs.Errorf(jobs.Session, jobs.CodeNotJSON, "the session's state contains %s", lost).
			WithHint("request it in MessagePack (Content-Type: %s)", jobs.MsgPack)
	}
	return nil
}

// lostInJSON names what of a checked value JSON cannot spell, or could not give back.
func lostInJSON(b []byte) string {
	in := wire.NewReader(b)
	for left := 1; left > 0; left-- {
		switch in.Kind() {
		case wire.Bin:
			return "bytes"
		case wire.Float:
			if v, _ := in.Float(); math.IsNaN(v) || math.IsInf(v, 0) {
				return "a number that is not finite"
			}
		case wire.Array:
			n, _ := in.Array()
			left += n
		case wire.Map:
			n, _ := in.Map()
			left += 2 * n
		default:
			if in.Skip() != nil {
				return "an unreadable value"
			}
		}
	}
	return ""
}
