// Package objects lets clients reach the large payloads of their tenant.
package objects

import (
	"context"
	"encoding/hex"
	"errors"
	"strconv"

	"github.com/dspex/dspex/internal/dispatch/endpoint"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// Objects answers requests about large payloads.
type Objects struct{ Broker *stream.Access }

const (
	shape     = `{"object": "...", "job": "...", "session": "...", "cursor": "..."}`
	idShape   = "the id of an object: 26 of A-Z 2-7"
	cursorHas = "the cursor of the previous answer"
)

// Get answers with a piece of an object. A name is made of the requester's tenant: nobody reaches another's.
func (o *Objects) Get(ctx context.Context, r endpoint.Request) {
	var id, job, session, cursor string
	bad := endpoint.ReadBody(r, shape, map[string]*endpoint.Entry{
		"object":  endpoint.Text(&id, idShape, jobs.ValidObject).Needed(),
		"job":     endpoint.Text(&job, "the id of the job, as it stands in the reply", validJob).Needed(),
		"session": endpoint.Text(&session, endpoint.SessionShape, jobs.ValidSession),
		"cursor":  endpoint.Text(&cursor, cursorHas, validCursor),
	})
	if bad != nil {
		endpoint.Refuse(r, bad)
		return
	}
	from, _ := strconv.ParseUint(cursor, 10, 64)
	result, err := o.piece(ctx, endpoint.SessionOf(r, session).ObjectName(job, id), from)
	if err != nil {
		endpoint.Refuse(r, Unreadable(err))
		return
	}
	result["object"] = id
	endpoint.RespondResult(r, result)
}

func (o *Objects) piece(ctx context.Context, name string, from uint64) (map[string]any, error) {
	found, err := o.Broker.Vault.Find(ctx, name)
	if err != nil {
		return nil, err
	}
	data, next, err := o.Broker.Vault.Chunk(ctx, name, from)
	switch {
	case errors.Is(err, stream.ErrNoObject) && from > 0: // behind the last piece
		data = []byte{}
	case err != nil:
		return nil, err
	}
	result := map[string]any{"size": found.Size, "digest": hex.EncodeToString(found.Digest[:]), "type": found.Type, "data": data}
	if next > 0 {
		result["cursor"] = strconv.FormatUint(next, 10)
	}
	return result, nil
}

// Unreadable reports why an object cannot be read.
func Unreadable(err error) *jobs.Error {
	if errors.Is(err, stream.ErrNoObject) {
		return jobs.Errorf(jobs.Session, jobs.CodeObjectUnknown, "the object is unknown").
			WithHint("it was never stored whole, has expired, or was erased; job and session must be those of the reply, without session for a job that had none")
	}
	if errors.Is(err, stream.ErrBadObject) {
		return jobs.Errorf(jobs.System, jobs.CodeBug, "the object cannot be read: %v", err)
	}
	return endpoint.Unreadable(err)
}

// validJob also takes the ids of jobs whose clients chose none, and of replays.
func validJob(id string) bool { return jobs.ValidTenant(id) }

func validCursor(c string) bool {
	_, err := strconv.ParseUint(c, 10, 64)
	return err == nil
}
