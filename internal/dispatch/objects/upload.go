package objects

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strconv"

	"github.com/dspex/dspex/internal/dispatch/endpoint"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

const (
	uploadShape   = `{"data": "...", "session": "...", "object": "...", "cursor": "..."}`
	completeShape = `{"object": "...", "session": "...", "size": 0, "digest": "...", "type": "..."}`
	mostSize      = 1 << 40 // the stream's own bounds are lower
)

// Upload stores one piece. The first one gets the object its id, which is dspex's own.
func (o *Objects) Upload(ctx context.Context, r endpoint.Request) {
	var text, id, session, cursor string
	var data []byte
	decoded := func(text string) (ok bool) {
		var err error
		data, err = base64.StdEncoding.DecodeString(text)
		return err == nil && len(data) > 0
	}
	bad := endpoint.ReadBody(r, uploadShape, map[string]*endpoint.Entry{
		"data":    endpoint.Text(&text, "the next bytes, as base64 text", decoded).Needed(),
		"object":  endpoint.Text(&id, idShape, jobs.ValidObject),
		"session": endpoint.Text(&session, endpoint.SessionShape, jobs.ValidSession),
		"cursor":  endpoint.Text(&cursor, cursorHas, validCursor),
	})
	switch {
	case bad != nil:
	case (id == "") != (cursor == ""):
		bad = jobs.Refused(jobs.CodeBadRequest, "cursor", "object and cursor of the previous answer, both or neither", "object and cursor go together")
	}
	if bad != nil {
		endpoint.Refuse(r, bad)
		return
	}
	if id == "" {
		id = rand.Text()
	}
	after, _ := strconv.ParseUint(cursor, 10, 64)
	to := endpoint.SessionOf(r, session)
	err := o.Broker.Vault.Admit(ctx, to.Tenant, len(data))
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, stream.AckTimeout)
		defer cancel()
		after, err = o.Broker.Vault.Upload(ctx, to.ObjectName("", id), data, after, jobs.UploadTTL)
	}
	if err != nil {
		endpoint.Refuse(r, notTaken(err))
		return
	}
	endpoint.RespondResult(r, map[string]any{"object": id, "cursor": strconv.FormatUint(after, 10)})
}

// Complete makes an object of what was uploaded.
func (o *Objects) Complete(ctx context.Context, r endpoint.Request) {
	var id, session, digest, kind string
	var size int64
	bad := endpoint.ReadBody(r, completeShape, map[string]*endpoint.Entry{
		"object":  endpoint.Text(&id, idShape, jobs.ValidObject).Needed(),
		"session": endpoint.Text(&session, endpoint.SessionShape, jobs.ValidSession),
		"size":    endpoint.Int(&size, "bytes of the whole object", 1, mostSize).Needed(),
		"digest":  endpoint.Text(&digest, "SHA-256 in 64 lower-case hexadecimal digits", func(v string) bool { _, ok := jobs.ParseDigest(v); return ok }).Needed(),
		"type":    endpoint.Text(&kind, jobs.JSON+" or "+jobs.MsgPack, func(v string) bool { return v == jobs.JSON || v == jobs.MsgPack }).Needed(),
	})
	if bad != nil {
		endpoint.Refuse(r, bad)
		return
	}
	to := endpoint.SessionOf(r, session)
	whole := stream.Object{Name: to.ObjectName("", id), Size: int(size), Type: kind}
	whole.Digest, _ = jobs.ParseDigest(digest)
	err := o.Broker.Vault.Bounded(ctx, whole.Size)
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, completeTime)
		defer cancel()
		err = o.Broker.Vault.Complete(ctx, whole, jobs.UploadTTL)
	}
	if err != nil {
		endpoint.Refuse(r, notTaken(err))
		return
	}
	endpoint.RespondResult(r, map[string]any{"object": id, "size": whole.Size, "digest": digest, "type": kind})
}

// completeTime bounds the reading of all pieces.
const completeTime = 5 * stream.AckTimeout

// notTaken reports why an upload was refused.
func notTaken(err error) *jobs.Error {
	switch {
	case errors.Is(err, stream.ErrObjectTooLarge):
		return jobs.Errorf(jobs.Session, jobs.CodeTooLarge, "the arguments are %v", err).WithHint("send less, or a reference of your own; operators: --object-max of the dispatcher")
	case errors.Is(err, stream.ErrObjectQuota):
		return jobs.Errorf(jobs.Resource, jobs.CodeQuota, "%v", err).WithHint("large payloads expire: wait, or erase sessions; operators: --tenant-objects of the dispatcher")
	case errors.Is(err, stream.ErrWrongRevision):
		return jobs.Errorf(jobs.Session, jobs.CodeConflict, "another piece is stored there").WithHint("each piece follows the one of the cursor; begin again without object and cursor")
	case errors.Is(err, stream.ErrBadObject):
		return jobs.Refused(jobs.CodeBadRequest, "digest", "size and digest of what was uploaded", "the upload must match its size and digest")
	case errors.Is(err, stream.ErrNoObject):
		return Unreadable(err)
	}
	return endpoint.NotAccepted(err)
}
